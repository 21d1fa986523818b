"""Launchers of the scan: one kernel where a program holds a memory, else a launch of the step's kernels each step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.triton import launch_step, scan
from mannkern.triton.launch import Maybe, constants_of, new_gradient, prepare, run, told_apart
from mannkern.triton.paths import SCAN_ELEMENTS_PER_THREAD, memory_blocks, scan_programs, scan_span, wide


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
    keep: bool,
) -> tuple[Tensor, ...]:
    """The scan's results (see :func:`mannkern.functional.lrua_scan`); then, empty unless ``keep``, what its backward
    pass needs: marks (T, B, N), and copies of memory and read weights (ceil(T / span) - 1, B, ...)."""
    (B, N, W), (T, _, R, _) = memory.shape, keys.shape
    dtype, device = wide(memory), memory.device
    blocks = memory_blocks(N, W, dtype, SCAN_ELEMENTS_PER_THREAD)
    span, n = scan_span(T), told_apart(num_least_used, per_head, R)
    count = -(-T // span) - 1 if keep else 0
    marks = torch.empty(T if keep else 0, B, N, dtype=torch.int8, device=device)
    copies, weights_copies, reads, memory_out, weights_out, usage_out = (
        torch.empty(size, dtype=dtype, device=device)
        for size in ((count, B, N, W), (count, B, R, N), (T, B, R, W), (B, N, W), (B, R, N), (B, N))
    )
    tensors = prepare(memory, read_weights, usage, keys, adds, gates, strengths)
    if blocks.whole:
        run(
            scan.scan_forward, (B,), blocks.warps, *tensors, reads, memory_out, weights_out, usage_out,
            *((marks, copies, weights_copies) if keep else (None, None, None)), B, T, span,
            **constants_of(memory, R, blocks), n=n, PER_HEAD=per_head, DECAY=decay,
        )  # fmt: skip
        return reads, memory_out, weights_out, usage_out, marks, copies, weights_copies
    memory, read_weights, usage, keys, adds, gates, strengths = tensors
    for t in range(T):
        if keep and t and t % span == 0:
            copies[t // span - 1], weights_copies[t // span - 1] = memory, read_weights
        b = None if strengths is None else strengths[t]
        memory, reads[t], read_weights, usage, _, mark = launch_step.forward(
            memory, read_weights, usage, keys[t], adds[t], gates[t], b, num_least_used, per_head, decay
        )
        if keep:
            marks[t] = mark
    return reads, memory, read_weights, usage, marks, copies, weights_copies


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
    copies: Tensor,
    weights_copies: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    """Gradients of memory, read weights, usage, keys, adds, gates and strengths; the last empty without strengths."""
    (B, N, W), (T, _, R, _) = memory.shape, keys.shape
    dtype, device = wide(memory), memory.device
    blocks = memory_blocks(N, W, dtype, SCAN_ELEMENTS_PER_THREAD)
    span, n = scan_span(T), told_apart(num_least_used, per_head, R)
    asked = [keys, adds, gates] if strengths is None else [keys, adds, gates, strengths]
    to_asked = [new_gradient(x) for x in asked]
    gradients = prepare(grad_reads, grad_memory, grad_read_weights, grad_usage)
    inputs = prepare(memory, read_weights, keys, adds, gates, strengths, marks, copies, weights_copies)
    if not blocks.whole:
        state = _backward_by_steps(gradients, inputs, to_asked, span, num_least_used, per_head, decay)
    else:
        sizes = ((B, N, W), (B, R, N), (B, N))
        state = tuple(torch.empty(size, dtype=dtype, device=device) for size in sizes)
        count = min(scan_programs(device), B)
        scratch = torch.empty(count, span, N, W, dtype=dtype, device=device)
        weights_scratch = torch.empty(count, span + 1, R, N, dtype=dtype, device=device)
        run(
            scan.scan_backward, (count,), blocks.warps, *gradients, *inputs,
            *state, *to_asked, *([None] if strengths is None else []), scratch, weights_scratch, B, T, span,
            **constants_of(memory, R, blocks), n=n, PER_HEAD=per_head, DECAY=decay,
        )  # fmt: skip
    to_memory, to_weights, to_usage = state
    to_asked = [x.to(like.dtype) for x, like in zip(to_asked, asked, strict=True)]
    without = [keys.new_empty(T, B, 0)] if strengths is None else []
    return to_memory, to_weights.to(read_weights.dtype), to_usage, *to_asked, *without


def _backward_by_steps(
    given: list[Any],
    inputs: list[Any],
    results: list[Tensor],
    span: int,
    n: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    """Fills the gradients of keys, adds, gates and strengths; returns those of memory, read weights and usage."""
    grad_reads, grad_memory, grad_weights, grad_usage = given
    memory, weights, keys, adds, gates, strengths, marks, copies, weights_copies = inputs
    usage = memory.new_zeros(marks.shape[1:])  # stands in: the marks are known

    def asked(t: int) -> tuple[Any, ...]:
        return keys[t], adds[t], gates[t], None if strengths is None else strengths[t]

    for begin in range((len(keys) - 1) // span * span, -1, -span):
        i_copy = begin // span - 1
        states = [(memory, weights) if begin == 0 else (copies[i_copy], weights_copies[i_copy])]
        steps = range(begin, min(begin + span, len(keys)))
        for t in steps:
            arguments: tuple[Any, ...] = (*states[-1], usage, *asked(t), n, per_head, decay, marks[t])
            new, _, new_weights, *_ = launch_step.forward(*arguments)
            states.append((new, new_weights))
        for t in reversed(steps):
            after, (_, previous) = states.pop(), states[-1]
            grad_read = None if grad_reads is None else grad_reads[t]
            gradients = (grad_memory, grad_read, grad_weights, grad_usage, None)
            arguments = (*gradients, previous, *asked(t), *after, marks[t], n, per_head, decay)
            grad_memory, grad_weights, grad_usage, *found = launch_step.backward(*arguments)
            for x, result in zip(found, results):  # strengths may be missing
                result[t] = x
    return grad_memory, grad_weights, grad_usage
