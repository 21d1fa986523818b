"""The operation ``ntm_episode``: an NTM over a whole sequence in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from mannkern.memories.content import read
from mannkern.memories.episode import (
    controller_gradients,
    gradients_for_autograd,
    last_cell,
    packed_controller,
    saved_shapes,
)
from mannkern.memories.function import is_differentiated_again, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm import reference
from mannkern.memories.ntm.interface import activate, interface_sizes

Nine = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Ten = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("ntm_episode", "default")
def ntm_episode(
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
    num_write_heads: int,
    num_shifts: int,
    save_for_backward: bool,
) -> Nine:
    """Outputs (T, B, D + R W); then memory, weights (B, H, N), write heads first, and cell after the last step.

    Then, saved for backward: checkpoints, rows, gates, cells and interface vectors.
    """
    rows = 3 * weights.shape[1] + 1
    return (
        memory.new_empty((input.shape[0], *output.shape)),
        *empty_like(memory, weights),
        last_cell(cell, memory, interface_weight),
        *saved_shapes(input, bias, interface_bias, cell, memory, rows, save_for_backward),
    )


@operation("ntm_episode_backward", "default")
def ntm_episode_backward(
    grad_outputs: Tensor | None,
    grad_memory: Tensor | None,
    grad_weights: Tensor | None,
    grad_cell: Tensor | None,
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    weights: Tensor,
    outputs: Tensor,
    checkpoints: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    num_write_heads: int,
    num_shifts: int,
    needs_input_grad: bool,
) -> Ten:
    """Gradients of the first eight arguments, and of memory and weights."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    return *controller, *empty_like(memory, weights)


def _reference_episode(
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
    num_write_heads: int,
    num_shifts: int,
) -> tuple[Tensor | None, ...]:
    """The episode in plain PyTorch."""
    H, V, W, S = weights.shape[1], num_write_heads, memory.shape[2], num_shifts
    sizes = interface_sizes(H, V, W, S)
    outputs = []
    for x in input:
        hidden, cell = packed_controller(x, output, cell, input_weight, bias, recurrent_weight)
        *heads, erase, add = activate(F.linear(hidden, interface_weight, interface_bias), sizes, H, V, W, S)
        write_weights = reference.ntm_address(memory, weights[:, :V], *(part[:, :V] for part in heads))
        memory = reference.ntm_write(memory, write_weights, erase, add)
        read_weights = reference.ntm_address(memory, weights[:, V:], *(part[:, V:] for part in heads))
        weights = torch.cat([write_weights, read_weights], 1)
        output = torch.cat([hidden, read(read_weights, memory).flatten(1)], 1)
        outputs.append(output)
    return torch.stack(outputs), memory, weights, cell


class NTMEpisodeFunction(Function):
    """The arguments of ``ntm_episode`` -> its results."""

    @staticmethod
    @takes(ntm_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return ntm_episode["default"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *state, heads, shifts, _ = inputs
        ctx.num_write_heads, ctx.num_shifts = heads, shifts
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        weights, for_reference = (input_weight, recurrent_weight, interface_weight), (bias, interface_bias)
        ctx.save_for_backward(input, *weights, *state, output[0], *output[4:], *for_reference)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, bias, interface_bias = ctx.saved_tensors
        options = ctx.num_write_heads, ctx.num_shifts
        if is_differentiated_again():
            input, input_weight, recurrent_weight, interface_weight, *state = saved[:8]
            args = (input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *state, *options)
            return (*pull_back(_reference_episode, args, grads[:4], ctx.needs_input_grad)[:10], None, None, None)
        out = ntm_episode_backward["default"](*grads[:4], *saved, *options, ctx.needs_input_grad[0])
        return (*gradients_for_autograd(ctx, out, saved), None, None, None)
