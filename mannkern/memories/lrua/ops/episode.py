"""The operation ``mann_episode``: MANN over a whole episode in compiled code, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

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
from mannkern.memories.lrua import reference
from mannkern.memories.lrua.interface import activate, interface_sizes

Eleven = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Twelve = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("mann_episode", "default")
def mann_episode(
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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> Eleven:
    """Outputs (T, B, D + R W), and memory, read weights, usage and cell after the last step.

    Then, saved for backward: checkpoints, rows, gates, cells, interface vectors, and least used slots (T, B, n).
    """
    T, B, _ = input.shape
    rows = 2 * read_weights.shape[1] + 1
    slots = memory.new_empty((T if save_for_backward else 1, B, num_least_used), dtype=torch.int64)
    return (
        memory.new_empty((T, *output.shape)),
        *empty_like(memory, read_weights, usage),
        last_cell(cell, memory, interface_weight),
        *saved_shapes(input, bias, interface_bias, cell, memory, rows, save_for_backward),
        slots,
    )


@operation("mann_episode_backward", "default")
def mann_episode_backward(
    grad_outputs: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_cell: Tensor | None,
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    outputs: Tensor,
    checkpoints: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    least_used: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> Twelve:
    """Gradients of the first eight arguments, and of memory, read weights, usage and initial memory."""
    B, N, _ = memory.shape
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    d_read_weights = memory.new_empty((B, rows.shape[2] // 2, N))
    d_initial = initial_memory_gradient(memory, reset)
    return *controller, *empty_like(memory), d_read_weights, memory.new_empty((B, N)), d_initial


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
    read_weights: Tensor,
    usage: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    least_used: Tensor,
    per_head: bool,
    decay: float,
) -> tuple[Tensor | None, ...]:
    """The episode in plain PyTorch, with the least used slots (T, B, n) of its steps: rounding could choose others."""
    (R, N), W, n = read_weights.shape[1:], memory.shape[2], least_used.shape[2]
    sizes = interface_sizes(R, W, key_strength=len(interface_bias) > 2 * R * W + R)

    def step(t: int, x: Tensor, state: State) -> State:
        output, cell, memory, read_weights, usage = state
        hidden, cell = packed_controller(x, output, cell, input_weight, bias, recurrent_weight)
        vector = activate(F.linear(hidden, interface_weight, interface_bias), sizes, R, W)
        memory, read, read_weights, usage, _ = reference.lrua_step(
            memory, read_weights, usage, *vector, n, per_head, decay, least_used[t].clamp(0, N - 1)
        )
        return torch.cat([hidden, read.flatten(1)], 1), cell, memory, read_weights, usage

    first_slot = torch.zeros_like(usage).index_fill(1, torch.tensor(0, device=usage.device), 1)
    start = initial_memory, first_slot.unsqueeze(1).expand_as(read_weights), first_slot
    outputs, (_, cell, *state) = reference_loop(
        step, input, (output, cell, memory, read_weights, usage), start, lengths, reset
    )
    return outputs, *state, cell


def differentiable_gradients(
    grads: Sequence[Tensor | None],
    saved: Sequence[Any],
    ends: Sequence[Tensor | None],
    others: Sequence[Tensor],
    least_used: Tensor,
    options: Sequence[Any],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of an episode's tensors through the reference, so that they can be differentiated again.

    saved: input, three weights, output, cell and memory. ends: lengths, reset and initial memory. others: the two
    biases and the read weights.
    """
    input, input_weight, recurrent_weight, interface_weight, output, cell, memory = saved
    bias, interface_bias, read_weights = others
    weights = input_weight, bias, recurrent_weight, interface_weight, interface_bias
    usage = torch.zeros_like(read_weights[:, 0])  # its values do not matter, because the slots are known
    args = (input, *weights, output, cell, memory, read_weights, usage, *ends, least_used, *options)
    return pull_back(reference_episode, args, grads, needed)[:14]


class MANNEpisodeFunction(Function):
    """The arguments of ``mann_episode`` -> its results."""

    @staticmethod
    @takes(mann_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return mann_episode["default"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *others = inputs[:14]
        output_before, cell, memory, read_weights, _, lengths, reset, initial = others
        _, ctx.per_head, ctx.decay, _ = inputs[14:]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        weights, for_reference = (
            (input_weight, recurrent_weight, interface_weight),
            (bias, interface_bias, read_weights),
        )
        ends = lengths, reset, initial
        ctx.save_for_backward(
            input, *weights, output_before, cell, memory, output[0], *output[5:], *ends, *for_reference
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, bias, interface_bias, read_weights = ctx.saved_tensors
        options = ctx.per_head, ctx.decay
        if is_differentiated_again():
            args = (saved[:7], saved[-3:], (bias, interface_bias, read_weights), saved[-4], options)
            return (*differentiable_gradients(grads[:5], *args, ctx.needs_input_grad), None, None, None, None)
        out = mann_episode_backward["default"](*grads[:5], *saved, *options, ctx.needs_input_grad[0])
        return (*gradients_for_autograd(ctx, out, saved), None, None, None, None)
