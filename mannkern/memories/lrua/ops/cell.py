"""The operation ``mann_cell``: a MANNCell's own step, its controller included, in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.function import MemoryFunction, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua.ops.episode import reference_episode
from mannkern.memories.step import (
    controller_gradients,
    controller_numbers,
    controller_results,
    is_transformed,
    pack,
    pack_output,
    unpack_output,
)
from mannkern.memories.weight_gradients import gives_rows, gradients_for_autograd

Eight = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Nine = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("mann_cell", "default")
def mann_cell(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    bias: Tensor,
    recurrent_bias: Tensor | None,
    interface_weight: Tensor,
    interface_bias: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    write_key: bool,
    save_for_backward: bool,
) -> Nine:
    """Output (B, D + R W), h and c (B, D), memory, read weights, usage and read; numbers and least used slots (B, n).

    The last two are saved for backward. h and c are (0, D) for one tanh layer.
    """
    B, R, N = read_weights.shape
    numbers = controller_numbers(input, weight, interface_weight) + B * (interface_weight.shape[0] + 2 * R * N + N)
    return (
        *controller_results(input, hidden, read, interface_weight),
        *empty_like(memory, read_weights, usage, read),
        memory.new_empty(numbers if save_for_backward else 0),
        memory.new_empty((B, num_least_used), dtype=torch.int64),
    )


@operation("mann_cell_backward", "default")
def mann_cell_backward(
    grad_output: Tensor | None,
    grad_hidden: Tensor | None,
    grad_cell: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_read: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    read_weights: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    interface_weight: Tensor,
    cell_out: Tensor,
    memory_out: Tensor,
    read_weights_out: Tensor,
    saved: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
    write_key: bool,
    needs_input_grad: bool,
    needs_weight_grad: bool,
) -> Eight:
    """Gradients of input, h, c, memory, read weights, usage and read, and the rows for those of the weights."""
    B, N = memory_out.shape[:2]
    d_input, d_hidden, rows = controller_gradients(
        input, hidden, weight, interface_weight, needs_input_grad, needs_weight_grad
    )
    d_cell, d_memory, d_read_weights, d_read = empty_like(d_hidden, memory_out, read_weights, read)
    return d_input, d_hidden, d_cell, d_memory, d_read_weights, memory_out.new_empty((B, N)), d_read, rows


def reference_cell(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    bias: Tensor,
    recurrent_bias: Tensor | None,
    interface_weight: Tensor,
    interface_bias: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
    write_key: bool,
) -> tuple[Tensor | None, ...]:
    """The step in plain PyTorch, with its least used slots, as an episode of one step."""
    size = read.shape[1] * read.shape[2]
    if write_key:
        interface_weight = torch.cat([interface_weight[:size], interface_weight])
        interface_bias = torch.cat([interface_bias[:size], interface_bias])
    weights = pack((weight, recurrent_weight, bias, recurrent_bias, interface_weight, interface_bias))
    before = pack_output(hidden, read, interface_weight), cell, memory, read_weights, usage
    options = least_used.shape[1], per_head, decay, least_used.unsqueeze(0)
    arguments: Any = (input.unsqueeze(0), *weights, *before, None, None, None, *options)
    outputs, *after, cell = reference_episode(*arguments)
    assert outputs is not None
    return outputs[0], *unpack_output(outputs[0], hidden, read, cell, *after)


class MANNCellFunction(MemoryFunction):
    """The arguments of ``mann_cell``, and those of ``gradients_of`` -> its results."""

    @staticmethod
    @takes(mann_cell, "weight_gradients", "after_steps")
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return mann_cell["default"](*args[:-2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *_, ctx.weight_gradients, ctx.after_steps = inputs
        ctx.options = inputs[14:17]
        _, _, cell, memory, read_weights, _, _, saved, least_used = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(saved, least_used)
        ctx.save_for_backward(*inputs[:13], cell, memory, read_weights, saved, least_used)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (*inputs, cell_out, memory_out, read_weights_out, saved, least_used) = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if is_transformed():
            args = (*inputs, least_used, *ctx.options)
            return (*pull_back(reference_cell, args, grads[:7], needed)[:13], *(None,) * 7)
        input, hidden, cell, _, read_weights, _, read, weight, recurrent_weight, _, _, interface_weight, _ = inputs
        rows_given = gives_rows(ctx)
        out = mann_cell_backward["default"](
            *grads[:7],
            input,
            hidden,
            cell,
            read_weights,
            read,
            weight,
            recurrent_weight,
            interface_weight,
            cell_out,
            memory_out,
            read_weights_out,
            saved,
            least_used,
            *ctx.options,
            needed[0],
            rows_given,
        )
        return gradients_for_autograd(ctx, out, hidden, rows_given, 5)
