"""The NTM's Functions. The dispatcher takes the kernels of the device the tensors are on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

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


class NTMLSTM(Function):
    """A whole episode of the NTM with an LSTM controller; the arguments are those of the kernel ``ntm_lstm``.

    -> outputs, and memory, weights and cell after the last step; then what the kernel saved.
    """

    @staticmethod
    @signed
    def forward(
        input: Tensor,
        input_weight: Tensor,
        bias: Tensor,
        recurrent_weight: Tensor,
        interface_weight: Tensor,
        interface_bias: Tensor,
        output: Tensor,
        cell: Tensor,
        memory: Tensor,
        weights: Tensor,
        write_heads: int,
        shifts: int,
    ) -> tuple[Tensor, ...]:
        outputs, memory, weights, copies, rows, gates, cells, interface = _OPS.ntm_lstm(
            input,
            input_weight,
            bias,
            recurrent_weight,
            interface_weight,
            interface_bias,
            output,
            cell,
            memory,
            weights,
            write_heads,
            shifts,
        )
        return outputs, memory, weights, cells[-1].clone(), copies, rows, gates, cells, interface

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *state, ctx.write_heads, ctx.shifts = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        ctx.save_for_backward(input, input_weight, recurrent_weight, interface_weight, *state, output[0], *output[4:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wants_input = ctx.needs_input_grad[0]
        grad_input, *others = gradient(
            _OPS.ntm_lstm_backward, *grads[:4], *ctx.saved_tensors, ctx.write_heads, ctx.shifts, wants_input
        )
        return (grad_input if wants_input else None, *others, None, None)
