"""The operation ``mann_episode``: MANN over a whole episode in compiled code, with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.memories.bfloat16 import in_bfloat16
from mannkern.memories.episode import (
    State,
    controller_gradients,
    initial_memory_gradient,
    last_cell,
    packed_controller,
    reference_loop,
    saved_shapes,
)
from mannkern.memories.episode_function import EpisodeOperation, episode_function
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
    num_least_used: int,
    per_head: bool,
    decay: float,
    least_used: Tensor,
) -> tuple[Tensor | None, ...]:
    """The episode in plain PyTorch, with the least used slots (T, B, n) of its steps: rounding could choose others."""
    (R, N), W = read_weights.shape[1:], memory.shape[2]
    sizes = interface_sizes(R, W, key_strength=len(interface_bias) > 2 * R * W + R)

    def step(t: int, x: Tensor, state: State) -> State:
        output, cell, memory, read_weights, usage = state
        hidden, cell = packed_controller(x, output, cell, input_weight, bias, recurrent_weight)
        vector = activate(F.linear(hidden, interface_weight, interface_bias), sizes, R, W)
        memory, read, read_weights, usage, _ = reference.lrua_step(
            memory, read_weights, usage, *vector, num_least_used, per_head, decay, least_used[t].clamp(0, N - 1)
        )
        return torch.cat([hidden, read.flatten(1)], 1), cell, memory, read_weights, usage

    first_slot = torch.zeros_like(usage).index_fill(1, torch.tensor(0, device=usage.device), 1)
    start = initial_memory, first_slot.unsqueeze(1).expand_as(read_weights), first_slot
    outputs, (_, cell, *state) = reference_loop(
        step, input, (output, cell, memory, read_weights, usage), start, lengths, reset
    )
    return outputs, *state, cell


MANN_EPISODE = EpisodeOperation(
    "MANNEpisodeFunction",
    mann_episode,
    mann_episode_backward,
    "default",
    states=3,
    kept=1,
    reference=reference_episode,
    skipped=1,
    choices=lambda saved, options: (saved[-1],),
)
MANNEpisodeFunction = episode_function(MANN_EPISODE)
MANNEpisodeBFloat16Function = episode_function(in_bfloat16(MANN_EPISODE))
