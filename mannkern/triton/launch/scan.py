"""Launchers of the operation ``lrua_scan``, forward and backward.

If one program holds a whole memory, the scan is one kernel; otherwise the step's kernels are launched for each step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.memories.lrua.ops import scan as operation
from mannkern.triton import scan
from mannkern.triton.launch.common import (
    Maybe,
    empty_gradient,
    make_all_aligned,
    memory_constants,
    num_ranked_slots,
    run,
)
from mannkern.triton.launch.step import lrua_step, lrua_step_backward
from mannkern.triton.tiling import SCAN_ELEMENTS_PER_THREAD, memory_blocks, scan_programs


def lrua_scan(
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    keys: Tensor,
    adds: Tensor,
    gates: Tensor,
    strengths: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> tuple[Tensor, ...]:
    """The scan's results (see :func:`mannkern.functional.lrua_scan`), then what its backward pass needs.

    That is the marks of the least used slots (T, B, N), and the checkpoints of memory and of read weights
    (ceil(T / checkpoint_every) - 1, B, ...). All three are empty unless ``save_for_backward``.
    """
    (B, N, W), (T, _, R, _) = memory.shape, keys.shape
    dtype, device = compute_dtype(memory), memory.device
    blocks = memory_blocks(N, W, dtype, SCAN_ELEMENTS_PER_THREAD)
    every = operation.recompute_checkpoint_every(T)
    count = -(-T // every) - 1 if save_for_backward else 0
    marks = torch.empty(T if save_for_backward else 0, B, N, dtype=torch.int8, device=device)
    checkpoints, weights_checkpoints, reads, memory_out, weights_out, usage_out = (
        torch.empty(size, dtype=dtype, device=device)
        for size in ((count, B, N, W), (count, B, R, N), (T, B, R, W), (B, N, W), (B, R, N), (B, N))
    )
    tensors = make_all_aligned(memory, read_weights, usage, keys, adds, gates, strengths)
    if blocks.whole:
        saved = (marks, checkpoints, weights_checkpoints) if save_for_backward else (None, None, None)
        run(
            scan.scan_forward, (B,), blocks.warps, *tensors, reads, memory_out, weights_out, usage_out, *saved,
            B, T, every, **memory_constants(memory, R, blocks), n=num_ranked_slots(num_least_used, per_head, R),
            PER_HEAD=per_head, DECAY=decay,
        )  # fmt: skip
        return reads, memory_out, weights_out, usage_out, marks, checkpoints, weights_checkpoints
    memory, read_weights, usage, keys, adds, gates, strengths = tensors
    for t in range(T):
        if save_for_backward and t and t % every == 0:
            checkpoints[t // every - 1], weights_checkpoints[t // every - 1] = memory, read_weights
        b = None if strengths is None else strengths[t]
        memory, reads[t], read_weights, usage, _, step_marks = lrua_step(
            memory, read_weights, usage, keys[t], adds[t], gates[t], b, num_least_used, per_head, decay
        )
        if save_for_backward:
            marks[t] = step_marks
    return reads, memory, read_weights, usage, marks, checkpoints, weights_checkpoints


def lrua_scan_backward(
    grad_reads: Maybe,
    grad_memory: Maybe,
    grad_read_weights: Maybe,
    grad_usage: Maybe,
    memory: Tensor,
    read_weights: Tensor,
    keys: Tensor,
    adds: Tensor,
    gates: Tensor,
    strengths: Maybe,
    marks: Tensor,
    checkpoints: Tensor,
    weights_checkpoints: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    """Gradients of memory, read weights, usage, keys, adds, gates, and strengths (empty if there are none)."""
    (B, N, W), (T, _, R, _) = memory.shape, keys.shape
    dtype, device = compute_dtype(memory), memory.device
    blocks = memory_blocks(N, W, dtype, SCAN_ELEMENTS_PER_THREAD)
    every = operation.recompute_checkpoint_every(T)
    interface = [keys, adds, gates] if strengths is None else [keys, adds, gates, strengths]
    d_interface = [empty_gradient(x) for x in interface]
    gradients = make_all_aligned(grad_reads, grad_memory, grad_read_weights, grad_usage)
    saved = make_all_aligned(
        memory, read_weights, keys, adds, gates, strengths, marks, checkpoints, weights_checkpoints
    )
    if not blocks.whole:
        options = (num_least_used, per_head, decay)
        d_state = _backward_by_steps(gradients, saved, d_interface, every, options)
    else:
        d_state = tuple(torch.empty(size, dtype=dtype, device=device) for size in ((B, N, W), (B, R, N), (B, N)))
        programs = min(scan_programs(device), B)
        scratch = torch.empty(programs, every, N, W, dtype=dtype, device=device)
        weights_scratch = torch.empty(programs, every + 1, R, N, dtype=dtype, device=device)
        d_strengths = [None] if strengths is None else []
        run(
            scan.scan_backward, (programs,), blocks.warps, *gradients, *saved, *d_state, *d_interface, *d_strengths,
            scratch, weights_scratch, B, T, every, **memory_constants(memory, R, blocks),
            n=num_ranked_slots(num_least_used, per_head, R), PER_HEAD=per_head, DECAY=decay,
        )  # fmt: skip
    d_memory, d_weights, d_usage = d_state
    d_interface = [d_x.to(x.dtype) for d_x, x in zip(d_interface, interface, strict=True)]
    no_strengths = [keys.new_empty(T, B, 0)] if strengths is None else []
    return d_memory, d_weights.to(read_weights.dtype), d_usage, *d_interface, *no_strengths


def _backward_by_steps(
    gradients: list[Any],
    saved: list[Any],
    d_interface: list[Tensor],
    every: int,
    options: tuple[int, bool, float],
) -> tuple[Tensor, ...]:
    """The backward pass of a scan in tiles: fills ``d_interface``, returns gradients of memory, read weights and usage.

    Between two checkpoints, last segment first, it computes the steps again and then goes back through them.
    ``options`` are the last three arguments of :func:`lrua_step_backward`.
    """
    grad_reads, grad_memory, grad_weights, grad_usage = gradients
    memory, weights, keys, adds, gates, strengths, marks, checkpoints, weights_checkpoints = saved
    usage = memory.new_zeros(marks.shape[1:])  # its values do not matter, because the marks are known

    def interface(t: int) -> tuple[Any, ...]:
        return keys[t], adds[t], gates[t], None if strengths is None else strengths[t]

    for begin in range((len(keys) - 1) // every * every, -1, -every):
        i = begin // every - 1
        states = [(memory, weights) if begin == 0 else (checkpoints[i], weights_checkpoints[i])]
        steps = range(begin, min(begin + every, len(keys)))
        for t in steps:
            arguments: tuple[Any, ...] = (*states[-1], usage, *interface(t), *options, marks[t])
            new_memory, _, new_weights, *_ = lrua_step(*arguments)
            states.append((new_memory, new_weights))
        for t in reversed(steps):
            after, (_, previous_weights) = states.pop(), states[-1]
            grad_read = None if grad_reads is None else grad_reads[t]
            gradients = [grad_memory, grad_read, grad_weights, grad_usage, None]
            arguments = (*gradients, previous_weights, *interface(t), *after, marks[t], *options)
            grad_memory, grad_weights, grad_usage, *d_step = lrua_step_backward(*arguments)
            for result, d_x in zip(d_interface, d_step):  # without strengths, d_step ends with an empty one more
                result[t] = d_x
    return grad_memory, grad_weights, grad_usage
