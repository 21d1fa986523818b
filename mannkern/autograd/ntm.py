"""The NTM's Functions. The dispatcher takes the kernels of the device the tensors are on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import mannkern.ops  # noqa: F401  defines the operations
from mannkern.autograd.function import Batched, gradient, signed

_OPS = torch.ops.mannkern


class ShiftSharpen(Batched):
    """weights, shift, sharpness -> weights."""

    @staticmethod
    @signed
    def forward(weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
        return _OPS.shift_sharpen(weights, shift, sharpness)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return gradient(_OPS.shift_sharpen_backward, grad, *ctx.saved_tensors)


class Address(Batched):
    """memory, previous, key, strength, gate, shift, sharpness -> weights; content, cosine and norm are kept."""

    @staticmethod
    @signed
    def forward(
        memory: Tensor, previous: Tensor, key: Tensor, strength: Tensor, gate: Tensor, shift: Tensor, sharpness: Tensor
    ) -> tuple[Tensor, ...]:
        return _OPS.ntm_address(memory, previous, key, strength, gate, shift, sharpness)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return (None,) * 7
        return gradient(_OPS.ntm_address_backward, grads[0], *ctx.saved_tensors)


class Write(Batched):
    """memory, weights, erase, add -> memory."""

    @staticmethod
    @signed
    def forward(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
        return _OPS.ntm_write(memory, weights, erase, add)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return gradient(_OPS.ntm_write_backward, grad, *ctx.saved_tensors)
