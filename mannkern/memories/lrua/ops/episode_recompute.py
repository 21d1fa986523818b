"""The overload "recompute" of ``mann_episode``: it checkpoints the memory only, and in row-major layout."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every, controller_gradients, initial_memory_gradient, last_cell
from mannkern.memories.episode_function import episode_function
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua.ops.episode import MANN_EPISODE, Eleven, Twelve
from mannkern.memories.lrua.ops.step import slots_of_marks


@operation("mann_episode", "recompute")
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

    Then, saved for backward: gates (T, B, G), of an LSTM; cells (T + 1, B, D) and read weights (T + 1, B, R, N), the
    first ones those before the episode; interface vectors (T, B, I); marks (T, B, N); and checkpoints of the memory
    (ceil(T / checkpoint_every) - 1, B, N, W), of which the first is that before step ``checkpoint_every``. All are
    empty unless ``save_for_backward``; gates and cells also are with a tanh layer.
    """
    (T, B, _), D = input.shape, interface_weight.shape[1]
    steps = T if save_for_backward else 0
    slots = T + 1 if save_for_backward else 0
    count = -(-T // checkpoint_every(T)) - 1 if save_for_backward else 0
    return (
        memory.new_empty((T, *output.shape)),
        *empty_like(memory, read_weights, usage),
        last_cell(cell, memory, interface_weight),
        memory.new_empty((0 if cell is None else steps, B, bias.shape[0])),
        memory.new_empty((0 if cell is None else slots, B, D)),
        memory.new_empty((slots, *read_weights.shape)),
        memory.new_empty((steps, B, interface_bias.shape[0])),
        memory.new_empty((steps, *usage.shape), dtype=torch.int8),
        memory.new_empty((count, *memory.shape)),
    )


@operation("mann_episode_backward", "recompute")
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
    gates: Tensor,
    cells: Tensor,
    weights: Tensor,
    interface: Tensor,
    marks: Tensor,
    checkpoints: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    num_least_used: int,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> Twelve:
    """Gradients of the first eight arguments, and of memory, read weights, usage and initial memory."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    d_usage, d_initial = memory.new_empty(marks.shape[1:]), initial_memory_gradient(memory, reset)
    return *controller, *empty_like(memory, weights[0]), d_usage, d_initial


MANNEpisodeRecomputeFunction = episode_function(
    MANN_EPISODE._replace(
        name="MANNEpisodeRecomputeFunction",
        forward=mann_episode,
        backward=mann_episode_backward,
        overload="recompute",
        skipped=0,
        choices=lambda saved, options: (slots_of_marks(saved[-2], options[0]),),
    )
)
