"""The Functions of whole episodes in compiled code, MANN's and the NTM's, with an LSTM or a tanh layer (cell None)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import mannkern.ops  # noqa: F401  defines the operations
from mannkern.autograd.function import gradient, signed

_OPS = torch.ops.mannkern


class MANNEpisode(Function):
    """The arguments of the kernel ``mann_episode`` -> outputs, and memory, read_weights, usage and cell after the last
    step; then what the kernel kept.
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
        cell: Tensor | None,
        memory: Tensor,
        read_weights: Tensor,
        usage: Tensor,
        num_least_used: int,
        per_head: bool,
        decay: float,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        return _OPS.mann_episode(
            input,
            input_weight,
            bias,
            recurrent_weight,
            interface_weight,
            interface_bias,
            output,
            cell,
            memory,
            read_weights,
            usage,
            num_least_used,
            per_head,
            decay,
            keep,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *state, _, ctx.per_head, ctx.decay, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        ctx.save_for_backward(
            input, input_weight, recurrent_weight, interface_weight, *state[:3], output[0], *output[5:]
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wants_input = ctx.needs_input_grad[0]
        out = gradient(_OPS.mann_episode_backward, *grads[:5], *ctx.saved_tensors, ctx.per_head, ctx.decay, wants_input)
        return (*_wanted(ctx, out), None, None, None, None)


class NTMEpisode(Function):
    """The arguments of the kernel ``ntm_episode`` -> outputs, and memory, weights and cell after the last step; then
    what the kernel kept.
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
        cell: Tensor | None,
        memory: Tensor,
        weights: Tensor,
        write_heads: int,
        shifts: int,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        return _OPS.ntm_episode(
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
            keep,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *state, ctx.write_heads, ctx.shifts, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        ctx.save_for_backward(input, input_weight, recurrent_weight, interface_weight, *state, output[0], *output[4:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wants_input = ctx.needs_input_grad[0]
        out = gradient(
            _OPS.ntm_episode_backward, *grads[:4], *ctx.saved_tensors, ctx.write_heads, ctx.shifts, wants_input
        )
        return (*_wanted(ctx, out), None, None, None)


def _wanted(ctx: Any, out: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """The kernel's gradients, None where there is no argument: of the cell of a layer; and of an input none wants."""
    grad_input, *others, grad_cell = out[:8]
    layer = ctx.saved_tensors[5] is None
    return (grad_input if ctx.needs_input_grad[0] else None, *others, None if layer else grad_cell, *out[8:])
