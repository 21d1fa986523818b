"""The overload "persistent" of ``mann_episode``: all steps in one launch of a CUDA kernel, in float32.

The kernel keeps the recurrent and the interface's weights in the shared memory of a cluster of 8 blocks. The products
with the input's weight, and those that give the gradients of the weights, are PyTorch's; they follow
``torch.backends.cuda.matmul.allow_tf32``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.episode import (
    checkpoint_every,
    controller_gradients,
    initial_memory_gradient,
    join_recurrent,
    split_recurrent,
)
from mannkern.memories.episode_function import episode_function
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua.ops.episode import MANN_EPISODE, Eleven, Twelve

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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> Eleven:
    """Outputs (T, B, D + R W), memory, read weights, usage and cell after the last step, and what is saved.

    Lengths, resets and initial memory must be None.
    """
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
    lengths: Tensor | None,
    reset: Tensor | None,
    initial_memory: Tensor | None,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> Twelve:
    """Gradients of the first eight arguments, of memory, read weights and usage, and (0, W)."""
    controller = controller_gradients(
        input, input_weight, recurrent_weight, interface_weight, output, cell, memory, needs_input_grad
    )
    d_usage, d_initial = memory.new_empty(memory.shape[:2]), initial_memory_gradient(memory, None)
    return *controller, *empty_like(memory, read_weights), d_usage, d_initial


def run_episode(input: Tensor, input_weight: Tensor, bias: Tensor, recurrent_weight: Tensor, *args: Any) -> Eleven:
    """The kernel of ``mann_episode`` on a GPU."""
    *layers_and_state, lengths, reset, _ = args[:10]
    _refuse_ends(lengths, reset)
    F = input.shape[2]
    projection = torch.addmm(bias, input.flatten(0, 1), input_weight[:, :F].t()).unflatten(0, input.shape[:2])
    recurrent_weight = join_recurrent(input_weight, recurrent_weight, F)
    *options, save_for_backward = args[10:]
    results: Eleven = mann_persistent["default"](
        projection, recurrent_weight, *layers_and_state, *options, checkpoint_every(len(input)), save_for_backward
    )
    return results


def _refuse_ends(lengths: Tensor | None, reset: Tensor | None) -> None:
    for name, x in {"lengths": lengths, "reset": reset}.items():
        if x is not None:
            raise ValueError(f"{name}: got a tensor for a MANN's episode as one kernel, need None")


def run_episode_backward(*args: Any) -> Twelve:
    """The kernel of ``mann_episode_backward`` on a GPU."""
    grads, (input, input_weight, recurrent_weight, interface_weight, output, cell, *state) = args[:5], args[5:13]
    outputs, *saved, lengths, reset, _, per_head, decay, needs_input_grad = args[13:]
    _refuse_ends(lengths, reset)
    F, recurrent_weight = input.shape[2], join_recurrent(input_weight, recurrent_weight, input.shape[2])
    d_gates, d_interface, *d_state = mann_persistent_backward["default"](
        *grads, recurrent_weight, interface_weight, cell, *state, *saved, per_head, decay, checkpoint_every(len(input))
    )
    gates, interface = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    before = torch.cat([output.unsqueeze(0), outputs[:-1]]).flatten(0, 1)
    hidden = outputs[..., : cell.shape[1]].flatten(0, 1)
    with torch.autocast(input.device.type, enabled=False):  # backward under autocast would round these products
        d_weight, d_recurrent = split_recurrent(gates.t() @ input.flatten(0, 1), gates.t() @ before, cell.shape[1])
        return (
            d_gates @ input_weight[:, :F] if needs_input_grad else input.new_empty((0, *input.shape[1:])),
            d_weight,
            gates.sum(0),
            d_recurrent,
            interface.t() @ hidden,
            interface.sum(0),
            *d_state,
            initial_memory_gradient(state[0], None),
        )


_library = torch.library.Library("mannkern", "IMPL")
_library.impl("mann_episode.persistent", run_episode, "CUDA")
_library.impl("mann_episode_backward.persistent", run_episode_backward, "CUDA")


MANNEpisodePersistentFunction = episode_function(
    MANN_EPISODE._replace(
        name="MANNEpisodePersistentFunction",
        forward=mann_episode,
        backward=mann_episode_backward,
        overload="persistent",
        kept=2,
    )
)
