"""Launchers of the operation ``ntm_episode``, forward and backward: a loop of three launches a step.

The controller's kernels are Triton's, those of the memory CUDA C++ (csrc/cuda/ntm_step.h).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every
from mannkern.memories.ntm.ops.step import ntm_recompute, ntm_step, ntm_step_backward
from mannkern.triton.graph import Results
from mannkern.triton.launch.common import Maybe, make_all_aligned
from mannkern.triton.launch.controller import Backward, Forward, first_weights, run_episode, run_episode_backward, start
from mannkern.triton.launch.plan import sizes


def ntm_episode(*args: Any) -> tuple[Tensor, ...]:
    """See ``ntm_episode`` of :mod:`mannkern.memories.ntm.ops.episode_recompute`."""
    return run_episode(_forward, 2, args)


def ntm_episode_backward(*args: Any) -> tuple[Tensor, ...]:
    """See ``ntm_episode_backward`` of :mod:`mannkern.memories.ntm.ops.episode_recompute`."""
    return run_episode_backward(_backward, 4, 1, 2, args)


def _forward(
    gates: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Maybe,
    memory: Tensor,
    first: Tensor,
    phase: Maybe,
    initial_memory: Maybe,
    num_write_heads: int,
    num_shifts: int,
    save_for_backward: bool,
) -> Results:
    """All steps forward. gates (T, B, G): the products with the input, plus biases, which an LSTM's gates overwrite.

    first: the weights (B, H, N) before the first step.
    """
    s = sizes(len(gates), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, H, every, empty = s.T, s.B, first.shape[1], checkpoint_every(s.T), memory.new_empty
    *layers, output, memory, initial_memory = make_all_aligned(
        recurrent_weight, interface_weight, interface_bias, output, memory, initial_memory
    )
    loop = Forward(s, layers, gates, output, cell, phase, {"TANH": 0, "RAW": s.I}, save_for_backward)
    weights = empty(T + 1 if save_for_backward else 2, B, H, s.N)
    weights[0] = first
    rows = empty(T if save_for_backward else 1, B, 2 * H + 2, s.N)
    checkpoints = empty(-(-T // every) - 1 if save_for_backward else 0, B, s.N, s.W)
    last_memory, start_weights = torch.empty_like(memory), first_weights(H, memory, initial_memory)
    before = memory
    for t in range(T):
        loop.step(t)
        slot, slot_after, i_row = loop.slots(t)
        is_checkpoint = save_for_backward and t + 1 < T and (t + 1) % every == 0
        after = checkpoints[(t + 1) // every - 1] if is_checkpoint else last_memory
        ntm_step["default"](
            before, weights[slot], None if phase is None else phase[t], initial_memory, start_weights,
            loop.interface[i_row], after, weights[slot_after], rows[i_row], loop.outputs[t],
            num_write_heads, num_shifts,
        )  # fmt: skip
        before = after
    results = loop.outputs, last_memory, weights[loop.slots(T - 1).after].clone(), loop.last_cell()
    if save_for_backward:
        saved_gates = gates if s.lstm else empty(0, B, s.G)
        return (*results, saved_gates, loop.cells, weights, loop.interface, rows, checkpoints), (start_weights,)
    scratch = (gates, loop.cells, weights, loop.interface, rows)
    return (*results, *(x.new_empty(0, *x.shape[1:]) for x in scratch), checkpoints), (*scratch, start_weights)


def _backward(
    grad_outputs: Maybe,
    grad_memory: Maybe,
    grad_weights: Maybe,
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
    rows: Tensor,
    checkpoints: Tensor,
    phase: Maybe,
    initial_memory: Maybe,
    num_write_heads: int,
    num_shifts: int,
) -> Results:
    """All steps backward: gradients of the gates (T, B, G) and of the interface vectors (T, B, I), both before their
    activation, of output, cell, memory and weights before the first step, and of each
    episode's initial memory.
    """
    s = sizes(len(interface), interface_weight, recurrent_weight, cell, memory, output.shape[1])
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    grad_outputs, *layers, output, memory, initial_memory = make_all_aligned(
        grad_outputs, recurrent_weight, interface_weight, output, memory, initial_memory
    )
    outputs, gates, cells, weights, interface, rows, checkpoints = make_all_aligned(
        outputs, gates, cells, weights, interface, rows, checkpoints
    )
    loop = Backward(s, layers, grad_outputs, grad_cell, output, outputs, gates, cells, phase)
    memories = empty(min(every, T), B, s.N, s.W)  # after each step from one checkpoint to the next
    first = initial_memory, first_weights(weights.shape[2], memory, initial_memory)
    d_first = None if initial_memory is None else torch.zeros_like(memory)
    d_memory, d_weights, options = (
        start(grad_memory, memory),
        start(grad_weights, weights[0]),
        (num_write_heads, num_shifts),
    )
    for t in reversed(range(T)):
        begin = t // every * every
        segment = checkpoints[begin // every - 1] if begin else memory
        if t == T - 1 or t % every == every - 1:
            steps, after = slice(begin, t + 1), slice(begin + 1, t + 2)
            ntm_recompute["default"](
                segment, interface[steps], weights[after], None if phase is None else phase[steps], *first,
                memories[: t + 1 - begin], *options,
            )  # fmt: skip
        ntm_step_backward["default"](
            loop.d_output, memories[t - begin - 1] if t > begin else segment, memories[t - begin],
            weights[t], weights[t + 1], rows[t], interface[t], None if phase is None else phase[t], *first,
            d_memory, d_weights, loop.d_interface[t], d_first, *options,
        )  # fmt: skip
        loop.step(t)
    d_state = loop.d_output, loop.d_cell, d_memory, d_weights, empty(0, s.W) if d_first is None else d_first
    return (loop.d_gates, loop.d_interface, *d_state), (memories, first[1])
