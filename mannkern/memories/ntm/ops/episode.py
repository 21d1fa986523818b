"""The operation ``ntm_episode``: an NTM over a whole sequence in compiled code, with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.memories.bfloat16 import in_bfloat16
from mannkern.memories.content import read
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


NTM_EPISODE = EpisodeOperation(
    "NTMEpisodeFunction",
    ntm_episode,
    ntm_episode_backward,
    "default",
    states=2,
    kept=2,
    reference=reference_episode,
)
NTMEpisodeFunction = episode_function(NTM_EPISODE)
NTMEpisodeBFloat16Function = episode_function(in_bfloat16(NTM_EPISODE))
