"""Launchers of the operation ``mann_episode``, forward and backward: a loop of three launches a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every
from mannkern.triton import episode
from mannkern.triton.graph import Results
from mannkern.triton.launch.common import Maybe, make_all_aligned, run
from mannkern.triton.launch.controller import Backward, Forward, first_weights, run_episode, run_episode_backward, start
from mannkern.triton.launch.plan import sizes, step_constants
from mannkern.triton.tiling import SCAN_ELEMENTS_PER_THREAD, memory_blocks, power_of_two


def mann_episode(*args: Any) -> tuple[Tensor, ...]:
    """See ``mann_episode`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    return run_episode(_forward, 3, args)


def mann_episode_backward(*args: Any) -> tuple[Tensor, ...]:
    """See ``mann_episode_backward`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    return run_episode_backward(_backward, 5, 1, 3, args)


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
    phase: Maybe,
    initial_memory: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> Results:
    """All steps forward. gates (T, B, G): the products with the input, plus biases, which an LSTM's gates overwrite."""
    s = sizes(len(gates), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    *layers, output, memory, usage, initial_memory = make_all_aligned(
        recurrent_weight, interface_weight, interface_bias, output, memory, usage, initial_memory
    )
    loop = Forward(s, layers, gates, output, cell, phase, {"TANH": 2 * s.R * s.W, "RAW": s.R}, save_for_backward)
    marks = empty(T if save_for_backward else 0, B, s.N, dtype=torch.int8)
    checkpoints = empty(-(-T // every) - 1 if save_for_backward else 0, B, s.N, s.W)
    last_memory, last_usage = torch.empty_like(memory), torch.empty_like(usage)
    p_saved = (marks, checkpoints) if save_for_backward else (None, None)
    p_first = initial_memory, first_weights(s.R, memory, initial_memory)
    weights = empty(T + 1 if save_for_backward else 2, B, s.R, s.N)
    weights[0] = read_weights  # last: the first kernel reads what was written two kernels before (block_math.follow)

    warps = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD).warps
    step = step_constants(memory, s, num_least_used, per_head) | {"D": s.D, "DECAY": decay}
    for t in range(T):
        loop.step(t)
        state = (last_memory, last_usage) if t else (memory, usage)
        i_checkpoint = t // every - 1 if t and t % every == 0 else -1
        run(
            episode.mann_step, (B,), warps, *state, last_memory, last_usage, loop.interface, weights, loop.outputs,
            *p_saved, phase, *p_first, t, *loop.slots(t), i_checkpoint, B, **step,
        )  # fmt: skip
    last_weights = weights[loop.slots(T - 1).after].clone()
    results = loop.outputs, last_memory, last_weights, last_usage, loop.last_cell()
    if save_for_backward:
        saved_gates = gates if s.lstm else empty(0, B, s.G)
        return (*results, saved_gates, loop.cells, weights, loop.interface, marks, checkpoints), p_first
    scratch = (gates, loop.cells, weights, loop.interface)
    saved = *(x.new_empty(0, *x.shape[1:]) for x in scratch), marks, checkpoints
    return (*results, *saved), (*scratch, *p_first)


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
    phase: Maybe,
    initial_memory: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> Results:
    """All steps backward: gradients of the gates (T, B, G) and of the interface vectors (T, B, I), both before their
    activation, of output, cell, memory, read weights and usage before the first step, and of each
    episode's initial memory.
    """
    s = sizes(len(interface), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    grad_outputs, *layers, output, memory, initial_memory = make_all_aligned(
        grad_outputs, recurrent_weight, interface_weight, output, memory, initial_memory
    )
    outputs, gates, cells, weights, interface, marks, checkpoints = make_all_aligned(
        outputs, gates, cells, weights, interface, marks, checkpoints
    )
    loop = Backward(s, layers, grad_outputs, grad_cell, output, outputs, gates, cells, phase)
    memories = empty(min(every, T), B, s.N, s.W)  # after each step from one checkpoint to the next
    first = first_weights(s.R, memory, initial_memory)
    d_first = None if initial_memory is None else torch.zeros_like(memory)
    d_memory, d_usage = start(grad_memory, memory), start(grad_usage, empty(B, s.N))

    warps = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD).warps
    write = step_constants(memory, s, num_least_used, per_head)
    step = write | {"D": s.D, "DECAY": decay, "BI": power_of_two(s.I)}

    def recompute(begin: int) -> None:
        before, i_before = (checkpoints, begin // every - 1) if begin else (memory, 0)
        run(
            episode.mann_recompute, (B,), warps, before, interface, weights, marks, memories,
            phase, initial_memory, first, i_before, begin, min(begin + every, T), B, **write,
        )  # fmt: skip

    recompute((T - 1) // every * every)
    # made here: the first step backward reads the memories before its turn, so it must not be the next kernel
    d_weights = start(grad_read_weights, weights[0])
    for t in reversed(range(T)):
        run(
            episode.mann_step_backward, (B,), warps, loop.d_output, memories, interface, weights, marks,
            d_memory, d_weights, d_usage, loop.d_interface, phase, first, d_first, t, t % every, B, **step,
        )  # fmt: skip
        if t and t % every == 0:
            recompute(t - every)  # two kernels before it is read (block_math.follow)
        loop.step(t)
    d_state = loop.d_output, loop.d_cell, d_memory, d_weights, d_usage, empty(0, s.W) if d_first is None else d_first
    return (loop.d_gates, loop.d_interface, *d_state), (memories, first)
