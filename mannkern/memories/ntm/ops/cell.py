"""The operation ``ntm_cell``: an NTMCell's own step, its controller included, in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.backends import native
from mannkern.memories.function import MemoryFunction, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm.ops.episode import reference_episode
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


@operation("ntm_cell", "default")
def ntm_cell(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    write_weights: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    bias: Tensor,
    recurrent_bias: Tensor | None,
    interface_weight: Tensor,
    interface_bias: Tensor,
    num_shifts: int,
    save_for_backward: bool,
) -> Eight:
    """Output (B, D + R W), h and c (B, D), memory, read weights, write weights and read; numbers saved for backward.

    h and c are (0, D) for one tanh layer.
    """
    B, N, _ = memory.shape
    heads, block = read_weights.shape[1] + write_weights.shape[1], native.block(memory.dtype)
    rows = (3 * heads + 1) * ((N + block - 1) // block * block)
    numbers = controller_numbers(input, weight, interface_weight) + B * (interface_weight.shape[0] + rows)
    return (
        *controller_results(input, hidden, read, interface_weight),
        *empty_like(memory, read_weights, write_weights, read),
        memory.new_empty(numbers if save_for_backward else 0),
    )


@operation("ntm_cell_backward", "default")
def ntm_cell_backward(
    grad_output: Tensor | None,
    grad_hidden: Tensor | None,
    grad_cell: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_write_weights: Tensor | None,
    grad_read: Tensor | None,
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    write_weights: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    interface_weight: Tensor,
    cell_out: Tensor,
    memory_out: Tensor,
    saved: Tensor,
    num_shifts: int,
    needs_input_grad: bool,
    needs_weight_grad: bool,
) -> Eight:
    """Gradients of input, h, c, memory, read weights, write weights and read, and the rows for those of the weights."""
    d_input, d_hidden, rows = controller_gradients(
        input, hidden, weight, interface_weight, needs_input_grad, needs_weight_grad
    )
    return d_input, d_hidden, *empty_like(d_hidden, memory, read_weights, write_weights, read), rows


def reference_cell(
    input: Tensor,
    hidden: Tensor | None,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    write_weights: Tensor,
    read: Tensor,
    weight: Tensor,
    recurrent_weight: Tensor | None,
    bias: Tensor,
    recurrent_bias: Tensor | None,
    interface_weight: Tensor,
    interface_bias: Tensor,
    num_shifts: int,
) -> tuple[Tensor | None, ...]:
    """The step in plain PyTorch, as an episode of one step."""
    weights = pack((weight, recurrent_weight, bias, recurrent_bias, interface_weight, interface_bias))
    V = write_weights.shape[1]
    before = pack_output(hidden, read, interface_weight), cell, memory, torch.cat([write_weights, read_weights], 1)
    arguments: Any = (input.unsqueeze(0), *weights, *before, None, None, None, V, num_shifts)
    outputs, new_memory, heads, cell = reference_episode(*arguments)
    assert outputs is not None
    assert heads is not None
    return outputs[0], *unpack_output(outputs[0], hidden, read, cell, new_memory, heads[:, V:], heads[:, :V])


class NTMCellFunction(MemoryFunction):
    """The arguments of ``ntm_cell``, and those of ``gradients_of`` -> its results."""

    @staticmethod
    @takes(ntm_cell, "weight_gradients", "after_steps")
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return ntm_cell["default"](*args[:-2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *_, ctx.num_shifts, _, ctx.weight_gradients, ctx.after_steps = inputs
        _, _, cell, memory, _, _, _, saved = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(saved)
        ctx.save_for_backward(*inputs[:13], cell, memory, saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (*inputs, cell_out, memory_out, saved) = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if is_transformed():
            args = (*inputs, ctx.num_shifts)
            return (*pull_back(reference_cell, args, grads[:7], needed)[:13], *(None,) * 4)
        *states, weight, recurrent_weight, _, _, interface_weight, _ = inputs
        rows_given = gives_rows(ctx)
        out = ntm_cell_backward["default"](
            *grads[:7],
            *states,
            weight,
            recurrent_weight,
            interface_weight,
            cell_out,
            memory_out,
            saved,
            ctx.num_shifts,
            needed[0],
            rows_given,
        )
        return gradients_for_autograd(ctx, out, inputs[1], rows_given, 2)
