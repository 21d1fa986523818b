"""The overload "recompute" of ``ntm_episode``: it checkpoints the memory only, and in row-major layout."""

from __future__ import annotations

from torch import Tensor

from mannkern.memories.episode import checkpoint_every, controller_gradients, initial_memory_gradient, last_cell
from mannkern.memories.episode_function import episode_function
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm.ops.episode import NTM_EPISODE, Eleven

Ten = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("ntm_episode", "recompute")
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
) -> Ten:
    """Outputs (T, B, D + R W); then memory, weights (B, H, N), write heads first, and cell after the last step.

    Then, saved for backward: gates (T, B, G), of an LSTM; cells (T + 1, B, D) and weights (T + 1, B, H, N), the first
    ones those before the episode; interface vectors (T, B, I); rows (T, B, 2 H + 2, N), of content weights, cosines
    and the norms of the memory before and after a step; and checkpoints of the memory (ceil(T / checkpoint_every) - 1,
    B, N, W), of which the first is that before step ``checkpoint_every``. All are empty unless ``save_for_backward``;
    gates and cells also are with a tanh layer.
    """
    (T, B, _), D, (_, H, N) = input.shape, interface_weight.shape[1], weights.shape
    steps = T if save_for_backward else 0
    slots = T + 1 if save_for_backward else 0
    count = -(-T // checkpoint_every(T)) - 1 if save_for_backward else 0
    return (
        memory.new_empty((T, *output.shape)),
        *empty_like(memory, weights),
        last_cell(cell, memory, interface_weight),
        memory.new_empty((0 if cell is None else steps, B, bias.shape[0])),
        memory.new_empty((0 if cell is None else slots, B, D)),
        memory.new_empty((slots, *weights.shape)),
        memory.new_empty((steps, B, interface_bias.shape[0])),
        memory.new_empty((steps, B, 2 * H + 2, N)),
        memory.new_empty((count, *memory.shape)),
    )


@operation("ntm_episode_backward", "recompute")
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
    outputs: Tensor,
    gates: Tensor,
    cells: Tensor,
    weights: Tensor,
    interface: Tensor,
    rows: Tensor,
    checkpoints: Tensor,
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
    return *controller, *empty_like(memory, weights[0]), initial_memory_gradient(memory, reset)


NTMEpisodeRecomputeFunction = episode_function(
    NTM_EPISODE._replace(
        name="NTMEpisodeRecomputeFunction",
        forward=ntm_episode,
        backward=ntm_episode_backward,
        overload="recompute",
        kept=1,
    )
)
