"""The operation ``shift_sharpen``: shift and sharpen (docs/equations.md), with its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, gradient_of, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm import reference


@operation("shift_sharpen", "default")
def shift_sharpen(weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
    """weights (B, H, N), shift (B, H, S), sharpness (B, H) -> weights (B, H, N)."""
    return weights.new_empty(weights.shape)


@operation("shift_sharpen_backward", "default")
def shift_sharpen_backward(
    grad: Tensor, weights: Tensor, shift: Tensor, sharpness: Tensor, sharpened: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the result, the arguments and the result -> gradients of the arguments."""
    return empty_like(weights, shift, sharpness)


_reference_backward = gradient_of(reference.shift_sharpen, 1, 3)


class ShiftSharpenFunction(MemoryFunction):
    """The arguments of ``shift_sharpen`` -> weights."""

    @staticmethod
    @takes(shift_sharpen)
    def forward(*args: Any) -> Tensor:
        return below_autograd(shift_sharpen["default"], *args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return call_backward(shift_sharpen_backward["default"], _reference_backward, grad, *ctx.saved_tensors)


give_gradient(shift_sharpen, lambda *args: ShiftSharpenFunction.apply_fast(*args[:-1]))
