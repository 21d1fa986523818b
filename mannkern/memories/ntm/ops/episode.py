"""The operation ``ntm_episode``: an NTM over a whole sequence in compiled code, with its gradient."""

from __future__ import annotations

from typing import Any

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


class NTMEpisodeFunction(Function):
    """The arguments of ``ntm_episode`` -> its results."""

    @staticmethod
    @takes(ntm_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return ntm_episode["default"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *others, heads, shifts, _ = inputs
        *state, lengths, reset, initial = others
        ctx.num_write_heads, ctx.num_shifts = heads, shifts
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        controller = input, input_weight, recurrent_weight, interface_weight
        ctx.save_for_backward(*controller, *state, output[0], *output[4:], lengths, reset, initial)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, options = ctx.saved_tensors, (ctx.num_write_heads, ctx.num_shifts, ctx.needs_input_grad[0])
        out = call_backward(ntm_episode_backward["default"], *grads[:4], *saved, *options)
        return (*gradients_for_autograd(ctx, out, saved), None, None, None)
