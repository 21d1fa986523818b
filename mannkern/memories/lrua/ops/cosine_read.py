"""The operation ``cosine_read``: content weights and read (docs/equations.md), with its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, gradient_of, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua import reference


@operation("cosine_read", "default")
def _save(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read (B, R, W) and read weights (B, R, N); then cosines (B, R, N) and norms (B, N), saved for backward."""
    B, N, _ = memory.shape
    weights = (B, key.shape[1], N)
    return memory.new_empty(key.shape), memory.new_empty(weights), memory.new_empty(weights), memory.new_empty((B, N))


@operation("cosine_read", "recompute")
def _recompute(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor]:
    """Read (B, R, W) and read weights (B, R, N)."""
    weights, dtype = (memory.shape[0], key.shape[1], memory.shape[1]), compute_dtype(memory)
    return memory.new_empty(key.shape, dtype=dtype), memory.new_empty(weights, dtype=dtype)


@operation("cosine_read_backward", "default")
def _save_backward(
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    memory: Tensor,
    key: Tensor,
    strength: Tensor | None,
    read_weights: Tensor,
    cosine: Tensor,
    norm: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, key and strength; the last is (B, 0) without strengths."""
    return _gradients(memory, key, strength)


@operation("cosine_read_backward", "recompute")
def _recompute_backward(
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    memory: Tensor,
    key: Tensor,
    strength: Tensor | None,
    read_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, key and strength; the last is (B, 0) without strengths."""
    return _gradients(memory, key, strength)


def _gradients(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return *empty_like(memory, key), strength_gradient(key, strength)


def strength_gradient(key: Tensor, strength: Tensor | None) -> Tensor:
    """The gradient of strength (B, R), or (B, 0) without strengths."""
    return key.new_empty((key.shape[0], 0)) if strength is None else strength.new_empty(strength.shape)


cosine_read = _save | _recompute
cosine_read_backward = _save_backward | _recompute_backward
_reference_backward = gradient_of(reference.cosine_read, 2, 3)


class CosineReadFunction(MemoryFunction):
    """The arguments of ``cosine_read`` and the overload -> read, read weights, and what that overload saves besides."""

    @staticmethod
    @takes(cosine_read, "overload")
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *arguments, overload = args
        return below_autograd(cosine_read[overload], *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *arguments, ctx.overload = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(*arguments, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        operation = cosine_read_backward[ctx.overload]
        d_memory, d_key, d_strength = call_backward(operation, _reference_backward, *grads[:2], *saved)
        return d_memory, d_key, None if saved[2] is None else d_strength, None


give_gradient(cosine_read, CosineReadFunction.apply_fast)
