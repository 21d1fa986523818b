"""The overload "persistent" of ``mann_episode``: all steps in one launch of a CUDA kernel, in float32.

The kernel keeps the recurrent and the interface's weights in the shared memory of a cluster of 8 blocks. The products
with the input's weight, and those that give the gradients of the weights, are PyTorch's; they follow
``torch.backends.cuda.matmul.allow_tf32``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from mannkern.memories.episode import checkpoint_every, controller_gradients, gradients_for_autograd
from mannkern.memories.function import is_differentiated_again, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua.ops.episode import Eleven, differentiable_gradients

Seven = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("mann_persistent", "default")
def mann_persistent(
    projection: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Tensor,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    checkpoint_every: int,
    save_for_backward: bool,
) -> Eleven:
    """What ``mann_episode`` gives, from the projection (T, B, 4 D) of the input: input times weight + bias.

    Saved for backward are checkpoints of the memory (ceil(T / checkpoint_every), B, N W), rows (T + 1, B, 2 R + 1, N)
    of read weights, cosines and norms, gates (T, B, 4 D), cells (T, B, D), interface vectors (T, B, I) and least used
    slots (T, B, n). All are empty unless ``save_for_backward``.
    """
    T, B, _ = projection.shape
    (_, N, W), R, D = memory.shape, read_weights.shape[1], cell.shape[1]
    steps, count = (T, -(-T // checkpoint_every)) if save_for_backward else (0, 0)
    return (
        memory.new_empty((T, *output.shape)),
        *empty_like(memory, read_weights, usage, cell),
        memory.new_empty((count, B, N * W)),
        memory.new_empty((T + 1 if save_for_backward else 0, B, 2 * R + 1, N)),
        memory.new_empty((steps, B, 4 * D)),
        memory.new_empty((steps, B, D)),
        memory.new_empty((steps, B, interface_bias.shape[0])),
        memory.new_empty((steps, B, num_least_used), dtype=torch.int64),
    )


@operation("mann_persistent_backward", "default")
def mann_persistent_backward(
    grad_outputs: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_cell: Tensor | None,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    cell: Tensor,
    memory: Tensor,
    read_weights: Tensor,
    checkpoints: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
    checkpoint_every: int,
) -> Seven:
    """Gradients of projection and interface product, and of output, cell, memory, read weights and usage."""
    output = memory.new_empty((memory.shape[0], recurrent_weight.shape[1]))
    usage = memory.new_empty(memory.shape[:2])
    return *empty_like(gates, interface), output, *empty_like(cell, memory, read_weights), usage


@operation("mann_episode", "persistent")
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
    """Outputs (T, B, D + R W), memory, read weights, usage and cell after the last step, and what is saved."""
    assert cell is not None
    projection = input.new_empty((*input.shape[:2], bias.shape[0]))
    weights = recurrent_weight, interface_weight, interface_bias
    state = output, cell, memory, read_weights, usage
    every = checkpoint_every(input.shape[0])
    fake: Eleven = mann_persistent["default"](
        projection, *weights, *state, num_least_used, per_head, decay, every, save_for_backward
    )
    return fake


@operation("mann_episode_backward", "persistent")
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
    read_weights: Tensor,
    outputs: Tensor,
    checkpoints: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> Eleven:
    """Gradients of the first eight arguments, and of memory, read weights and usage."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    return *controller, *empty_like(memory, read_weights), memory.new_empty(memory.shape[:2])


def run_episode(input: Tensor, input_weight: Tensor, bias: Tensor, *args: Any) -> Eleven:
    """The kernel of ``mann_episode`` on a GPU."""
    projection = torch.addmm(bias, input.flatten(0, 1), input_weight.t()).unflatten(0, input.shape[:2])
    *rest, save_for_backward = args
    results: Eleven = mann_persistent["default"](projection, *rest, checkpoint_every(len(input)), save_for_backward)
    return results


def run_episode_backward(*args: Any) -> Eleven:
    """The kernel of ``mann_episode_backward`` on a GPU."""
    grads, (input, input_weight, recurrent_weight, interface_weight, output, cell, *state) = args[:5], args[5:13]
    outputs, *saved, per_head, decay, needs_input_grad = args[13:]
    d_gates, d_interface, *d_state = mann_persistent_backward["default"](
        *grads, recurrent_weight, interface_weight, cell, *state, *saved, per_head, decay, checkpoint_every(len(input))
    )
    gates, interface = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    before = torch.cat([output.unsqueeze(0), outputs[:-1]]).flatten(0, 1)
    hidden = outputs[..., : cell.shape[1]].flatten(0, 1)
    return (
        d_gates @ input_weight if needs_input_grad else input.new_empty((0, *input.shape[1:])),
        gates.t() @ input.flatten(0, 1),
        gates.sum(0),
        gates.t() @ before,
        interface.t() @ hidden,
        interface.sum(0),
        *d_state,
    )


_library = torch.library.Library("mannkern", "IMPL")
_library.impl("mann_episode.persistent", run_episode, "CUDA")
_library.impl("mann_episode_backward.persistent", run_episode_backward, "CUDA")


class MANNEpisodePersistentFunction(Function):
    """The arguments of ``mann_episode`` -> its results."""

    @staticmethod
    @takes(mann_episode)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return mann_episode["persistent"](*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, *state = inputs[:10]
        ctx.options = inputs[12:14]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        weights, biases = (input_weight, recurrent_weight, interface_weight), (bias, interface_bias)
        ctx.save_for_backward(input, *weights, *state, output[0], *output[5:], *biases)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, bias, interface_bias = ctx.saved_tensors
        if is_differentiated_again():
            others = bias, interface_bias, saved[7]
            args = (saved[:7], (None, None, None), others, saved[-1], ctx.options)
            needed = (*ctx.needs_input_grad[:11], False, False, False)
            return (*differentiable_gradients(grads[:5], *args, needed)[:11], None, None, None, None)
        out = mann_episode_backward["persistent"](*grads[:5], *saved, *ctx.options, ctx.needs_input_grad[0])
        no_ends = (None,)
        gradients = gradients_for_autograd(ctx, (*out, *no_ends), (*saved, *no_ends))[:11]
        return (*gradients, None, None, None, None)
