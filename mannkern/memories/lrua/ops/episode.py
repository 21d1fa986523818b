"""The operation ``mann_episode``: MANN over a whole episode in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from mannkern.memories.episode import (
    controller_gradients,
    gradients_for_autograd,
    initial_memory_gradient,
    last_cell,
    saved_shapes,
)
from mannkern.memories.function import call_backward, takes
from mannkern.memories.library import empty_like, operation

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


class MANNEpisodeFunction(Function):
    """The arguments of ``mann_episode`` -> its results."""

    @staticmethod
    @takes(mann_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return mann_episode["default"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *others, _, ctx.per_head, ctx.decay, _ = inputs
        output_before, cell, memory, _, _, lengths, reset, initial = others
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        controller = input, input_weight, recurrent_weight, interface_weight, output_before, cell
        ctx.save_for_backward(*controller, memory, output[0], *output[5:], lengths, reset, initial)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, options = ctx.saved_tensors, (ctx.per_head, ctx.decay, ctx.needs_input_grad[0])
        out = call_backward(mann_episode_backward["default"], *grads[:5], *saved, *options)
        return (*gradients_for_autograd(ctx, out, saved), None, None, None, None)
