"""The operation ``ntm_write``: erase and add (docs/equations.md), with its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, gradient_of, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm import reference


@operation("ntm_write", "default")
def ntm_write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """memory (B, N, W), weights (B, H, N), erase and add (B, H, W) -> memory (B, N, W)."""
    return memory.new_empty(memory.shape)


@operation("ntm_write_backward", "default")
def ntm_write_backward(
    grad: Tensor, memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of the result and the arguments -> gradients of the arguments."""
    return empty_like(memory, weights, erase, add)


_reference_backward = gradient_of(reference.ntm_write, 1, 4)


class NTMWriteFunction(MemoryFunction):
    """The arguments of ``ntm_write`` -> memory."""

    @staticmethod
    @takes(ntm_write)
    def forward(*args: Any) -> Tensor:
        return below_autograd(ntm_write["default"], *args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return call_backward(ntm_write_backward["default"], _reference_backward, grad, *ctx.saved_tensors)


give_gradient(ntm_write, lambda *args: NTMWriteFunction.apply_fast(*args[:-1]))
