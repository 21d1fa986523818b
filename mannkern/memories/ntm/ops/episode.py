"""The operation ``ntm_episode``: an NTM over a whole sequence in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from mannkern.memories.content import read
from mannkern.memories.episode import (
    State,
    controller_gradients,
    gradients_for_autograd,
    initial_memory_gradient,
    last_cell,
    packed_controller,
    reference_loop,
    saved_shapes,
)
from mannkern.memories.function import is_differentiated_again, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm import reference
from mannkern.memories.ntm.interface import activate, interface_sizes

Nine = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Eleven = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    num_write_heads: int,
    num_shifts: int,
    needs_input_grad: bool,
) -> Eleven:
    """Gradients of the first eight arguments, and of memory, weights and initial memory."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    return *controller, *empty_like(memory, weights), initial_memory_gradient(memory, reset)


def reference_episode(
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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    num_write_heads: int,
    num_shifts: int,
) -> tuple[Tensor | None, ...]:
    """The episode in plain PyTorch."""
    H, V, W, S = weights.shape[1], num_write_heads, memory.shape[2], num_shifts
    sizes = interface_sizes(H, V, W, S)

    def step(t: int, x: Tensor, state: State) -> State:
        output, cell, memory, weights = state
        hidden, cell = packed_controller(x, output, cell, input_weight, bias, recurrent_weight)
        *heads, erase, add = activate(F.linear(hidden, interface_weight, interface_bias), sizes, H, V, W, S)
        write_weights = reference.ntm_address(memory, weights[:, :V], *(part[:, :V] for part in heads))
        memory = reference.ntm_write(memory, write_weights, erase, add)
        read_weights = reference.ntm_address(memory, weights[:, V:], *(part[:, V:] for part in heads))
        output = torch.cat([hidden, read(read_weights, memory).flatten(1)], 1)
        return output, cell, memory, torch.cat([write_weights, read_weights], 1)

    first_slot = torch.zeros_like(weights).index_fill(2, torch.tensor(0, device=weights.device), 1)
    start = initial_memory, first_slot
    outputs, (_, cell, *last) = reference_loop(step, input, (output, cell, memory, weights), start, lengths, reset)
    return outputs, *last, cell


class NTMEpisodeFunction(Function):
    """The arguments of ``ntm_episode`` -> its results."""

    @staticmethod
    @takes(ntm_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return ntm_episode["default"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *others = inputs[:13]
        *state, lengths, reset, initial = others
        ctx.num_write_heads, ctx.num_shifts, _ = inputs[13:]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        weights, for_reference = (input_weight, recurrent_weight, interface_weight), (bias, interface_bias)
        ends = lengths, reset, initial
        ctx.save_for_backward(input, *weights, *state, output[0], *output[4:], *ends, *for_reference)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, bias, interface_bias = ctx.saved_tensors
        options = ctx.num_write_heads, ctx.num_shifts
        if is_differentiated_again():
            input, input_weight, recurrent_weight, interface_weight, *state = saved[:8]
            weights = input_weight, bias, recurrent_weight, interface_weight, interface_bias
            args = (input, *weights, *state, *saved[-3:], *options)
            return (*pull_back(reference_episode, args, grads[:4], ctx.needs_input_grad)[:13], None, None, None)
        out = ntm_episode_backward["default"](*grads[:4], *saved, *options, ctx.needs_input_grad[0])
        return (*gradients_for_autograd(ctx, out, saved), None, None, None)
