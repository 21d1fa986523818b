"""Launchers of the operation ``mann_episode``, forward and backward: a loop of a few launches a step.

Nothing is allocated within the loop. On a GPU the whole loop is captured as a CUDA graph (mannkern/triton/graph.py).
The products of all steps stand outside it: PyTorch gives the library that computes them memory for each graph.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every
from mannkern.triton import controller, episode
from mannkern.triton.graph import replay
from mannkern.triton.launch.common import Maybe, make_all_aligned, run
from mannkern.triton.launch.plan import product, sizes, step_constants
from mannkern.triton.tiling import SCAN_ELEMENTS_PER_THREAD, memory_blocks, power_of_two

Results = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # and scratch memory, for a graph


def mann_episode(
    input: Tensor, input_weight: Tensor, bias: Tensor, *weights_state_options: Any
) -> tuple[Tensor, ...]:  # fmt: skip
    """See ``mann_episode`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    with _without_autocast(input.device.type):
        gates = torch.addmm(bias, input.flatten(0, 1), input_weight.t()).unflatten(0, input.shape[:2])
    return replay(_forward, (gates, *weights_state_options[:8]), weights_state_options[8:])


def mann_episode_backward(*args: Any) -> tuple[Tensor, ...]:
    """See ``mann_episode_backward`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    grads, (input, input_weight, recurrent_weight, interface_weight, output, cell, memory) = args[:5], args[5:12]
    outputs, *saved = args[12:19]
    *options, needs_input_grad = args[19:]
    tensors = (*grads, recurrent_weight, interface_weight, output, cell, memory, outputs, *saved)
    d_gates, d_interface, *d_state = replay(_backward, tensors, tuple(options))
    D = interface_weight.shape[1]
    first = output.shape[1] - recurrent_weight.shape[1]
    rows, vectors = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    with _without_autocast(input.device.type):
        d_recurrent = d_gates[0].t() @ output[:, first:]
        if len(d_gates) > 1:
            d_recurrent.addmm_(d_gates[1:].flatten(0, 1).t(), outputs[:-1, :, first:].flatten(0, 1))
        return (
            (rows @ input_weight).view(input.shape) if needs_input_grad else input.new_empty(0, *input.shape[1:]),
            rows.t() @ input.flatten(0, 1), rows.sum(0), d_recurrent,
            vectors.t() @ outputs[..., :D].flatten(0, 1), vectors.sum(0), *d_state,
        )  # fmt: skip


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Matrix products in float32: a backward pass may be called under autocast."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _forward(
    gates: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Maybe,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> Results:
    """All steps forward. gates (T, B, G): the products with the input, plus biases, which an LSTM's gates overwrite."""
    s = sizes(len(gates), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    recurrent_weight, interface_weight, interface_bias, output, memory, usage = make_all_aligned(
        recurrent_weight, interface_weight, interface_bias, output, memory, usage
    )
    slots = T + 1 if save_for_backward else 2
    cells, weights = empty(slots if s.lstm else 0, B, s.D), empty(slots, B, s.R, s.N)
    if cell is not None:
        cells[0] = cell
    weights[0] = read_weights  # last: the first kernel reads what was written two kernels before (block_math.follow)
    steps = T if save_for_backward else 1
    outputs, interface = empty(T, B, s.O), empty(steps, B, s.I)
    marks = empty(steps if save_for_backward else 0, B, s.N, dtype=torch.int8)
    checkpoints = empty(-(-T // every) - 1 if save_for_backward else 0, B, s.N, s.W)
    last_memory, last_usage = torch.empty_like(memory), torch.empty_like(usage)
    p_saved = (marks, checkpoints) if save_for_backward else (None, None)

    layer = product(s.G, s.O - s.first, memory)
    heads = product(s.I, s.D, memory)
    layout = {"D": s.D, "O": s.O}
    columns = {"I": s.I, "TANH": 2 * s.R * s.W, "RAW": s.R}
    blocks = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD)
    step = step_constants(memory, s, num_least_used, per_head) | {"D": s.D, "DECAY": decay}
    for t in range(T):
        before, i_before = (outputs, t - 1) if t else (output, 0)
        slot, after, i_interface = (t, t + 1, t) if save_for_backward else (t % 2, 1 - t % 2, 0)
        if s.lstm:
            run(
                controller.lstm_forward, layer.grid, layer.warps,
                before, recurrent_weight, gates, cells, outputs,
                t, i_before, slot, after, B, **layout, **layer.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_forward, layer.grid, layer.warps,
                before, recurrent_weight, gates, outputs, t, i_before, B,
                **layout, **layer.constants,
            )  # fmt: skip
        run(
            controller.interface_forward, heads.grid, heads.warps,
            outputs, interface_weight, interface_bias, interface,
            t, i_interface, B, **layout, **columns, **heads.constants,
        )  # fmt: skip
        state = (last_memory, last_usage) if t else (memory, usage)
        i_checkpoint = t // every - 1 if t and t % every == 0 else -1
        run(
            episode.mann_step, (B,), blocks.warps, *state, last_memory, last_usage, interface, weights, outputs,
            *p_saved, t, slot, after, i_interface, i_checkpoint, B, **step,
        )  # fmt: skip
    last = T if save_for_backward else T % 2
    last_cell = cells[last].clone() if s.lstm else empty(0, s.D)
    results = outputs, last_memory, weights[last].clone(), last_usage, last_cell
    if save_for_backward:
        return (*results, gates if s.lstm else empty(0, B, s.G), cells, weights, interface, marks, checkpoints), ()
    scratch = (gates, cells, weights, interface)
    return (*results, *(x.new_empty(0, *x.shape[1:]) for x in scratch), marks, checkpoints), scratch


def _backward(
    grad_outputs: Maybe,
    grad_memory: Maybe,
    grad_read_weights: Maybe,
    grad_usage: Maybe,
    grad_cell: Maybe,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Maybe,
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
) -> Results:
    """All steps backward: gradients of the gates (T, B, G) and of the interface vectors (T, B, I), both before their
    activation, and of output, cell, memory, read weights and usage before the first step.
    """
    s = sizes(len(interface), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    grad_outputs, recurrent_weight, interface_weight, output, memory = make_all_aligned(
        grad_outputs, recurrent_weight, interface_weight, output, memory
    )
    outputs, gates, cells, weights, interface, marks, checkpoints = make_all_aligned(
        outputs, gates, cells, weights, interface, marks, checkpoints
    )
    d_gates, d_interface = empty(T, B, s.G), empty(T, B, s.I)
    memories = empty(min(every, T), B, s.N, s.W)  # after each step from one checkpoint to the next

    hidden, recurrent = product(s.D, s.I, memory), product(s.O - s.first, s.G, memory)
    blocks = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD)
    write = step_constants(memory, s, num_least_used, per_head)
    step = write | {"D": s.D, "DECAY": decay, "BI": power_of_two(s.I)}
    layout = {"D": s.D, "O": s.O, "I": s.I}

    def recompute(begin: int) -> None:
        first, i_first = (checkpoints, begin // every - 1) if begin else (memory, 0)
        run(
            episode.mann_recompute, (B,), blocks.warps, first, interface, weights, marks, memories,
            i_first, begin, min(begin + every, T), B, **write,
        )  # fmt: skip

    recompute((T - 1) // every * every)
    d_memory, d_weights = _start(grad_memory, memory), _start(grad_read_weights, weights[0])
    d_usage, d_cell = _start(grad_usage, empty(B, s.N)), _start(grad_cell, empty(B if s.lstm else 0, s.D))
    d_output = torch.zeros_like(output)
    if grad_outputs is not None:
        d_output[:, s.first :] = grad_outputs[-1, :, s.first :]
    for t in reversed(range(T)):
        run(
            episode.mann_step_backward, (B,), blocks.warps, d_output, memories, interface, weights, marks,
            d_memory, d_weights, d_usage, d_interface, t, t % every, B, **step,
        )  # fmt: skip
        if t and t % every == 0:
            recompute(t - every)  # two kernels before it is read (block_math.follow)
        if s.lstm:
            run(
                controller.lstm_backward, hidden.grid, hidden.warps,
                d_interface, interface_weight, d_output, gates, cells, d_cell, d_gates, t, 0, B,
                **layout, **hidden.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_backward, hidden.grid, hidden.warps,
                d_interface, interface_weight, grad_outputs, outputs, d_gates, t, t, B, **layout, **hidden.constants,
            )  # fmt: skip
        run(
            controller.output_backward, recurrent.grid, recurrent.warps,
            d_gates, recurrent_weight, grad_outputs, d_output, t, B,
            G=s.G, O=s.O, FIRST=s.first, **recurrent.constants,
        )  # fmt: skip
    return (d_gates, d_interface, d_output, d_cell, d_memory, d_weights, d_usage), (memories,)


def _start(gradient: Maybe, like: Tensor) -> Tensor:
    """A buffer for a gradient that is updated in place: it begins as that after the last step, zero without one."""
    if gradient is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return gradient.clone(memory_format=torch.contiguous_format)
