"""The operation ``additive_write``: write (docs/equations.md), with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua import reference


@operation("additive_write", "default", "recompute")
def additive_write(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> Tensor:
    """memory (B, N, W), write weights (B, R, N), add (B, R, W), reset (B) -> memory (B, N, W)."""
    return memory.new_empty(memory.shape, dtype=compute_dtype(memory))


@operation("additive_write_backward", "default", "recompute")
def additive_write_backward(
    grad: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the result -> those of memory, write weights and add."""
    d_memory, d_write_weights, d_add = empty_like(grad, write_weights, add)
    return d_memory, d_write_weights, d_add


def _reference_backward(grad: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> Any:
    """The same gradients; they do not depend on the memory, in which the write is linear."""
    arguments = torch.zeros_like(grad), write_weights, add, reset
    return pull_back(reference.additive_write, arguments, (grad,))[:3]


class AdditiveWriteFunction(MemoryFunction):
    """The arguments of ``additive_write`` and the overload -> memory."""

    @staticmethod
    @takes(additive_write, "overload")
    def forward(*args: Any) -> Tensor:
        *arguments, overload = args
        return below_autograd(additive_write[overload], *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *saved, ctx.overload = inputs[1:]
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operation = additive_write_backward[ctx.overload]
        return (*call_backward(operation, _reference_backward, grad, *ctx.saved_tensors), None, None)


give_gradient(additive_write, AdditiveWriteFunction.apply_fast)
