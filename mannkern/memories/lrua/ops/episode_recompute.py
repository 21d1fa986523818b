"""The overload "recompute" of ``mann_episode``: it checkpoints the memory only, and in row-major layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from mannkern.memories.episode import checkpoint_every, controller_gradients, gradients_for_autograd, last_cell
from mannkern.memories.function import is_differentiated_again, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua.ops.episode import Eleven, differentiable_gradients
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
    num_least_used: int,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> Eleven:
    """Gradients of the first eight arguments, and of memory, read weights and usage."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    return *controller, *empty_like(memory, weights[0]), memory.new_empty(marks.shape[1:])


class MANNEpisodeRecomputeFunction(Function):
    """The arguments of ``mann_episode`` -> its results."""

    @staticmethod
    @takes(mann_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return mann_episode["recompute"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *state = inputs[:11]
        *ctx.options, _ = inputs[11:]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        weights = input_weight, recurrent_weight, interface_weight
        for_reference = bias, interface_bias, state[3]
        ctx.save_for_backward(input, *weights, *state[:3], output[0], *output[5:], *for_reference)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, bias, interface_bias, read_weights = ctx.saved_tensors
        if is_differentiated_again():
            n, *options = ctx.options
            others = bias, interface_bias, read_weights
            args = (saved[:7], (None, None, None), others, slots_of_marks(saved[-2], n), options)
            needed = (*ctx.needs_input_grad[:11], False, False, False)
            return (*differentiable_gradients(grads[:5], *args, needed)[:11], None, None, None, None)
        out = mann_episode_backward["recompute"](*grads[:5], *saved, *ctx.options, ctx.needs_input_grad[0])
        no_ends = (None,)
        gradients = gradients_for_autograd(ctx, (*out, *no_ends), (*saved, *no_ends))[:11]
        return (*gradients, None, None, None, None)
