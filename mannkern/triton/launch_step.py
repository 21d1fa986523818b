"""Launchers of the memory step and of the cosine read."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mannkern.triton import step
from mannkern.triton.launch import (
    Maybe,
    acc,
    constants_of,
    new_gradient,
    new_parts,
    prepare,
    run,
    sum_parts,
    told_apart,
)
from mannkern.triton.launch_pieces import marks_of
from mannkern.triton.paths import memory_blocks, slot_blocks, wide


def cosine_read(memory: Tensor, key: Tensor, strength: Maybe) -> tuple[Tensor, Tensor]:
    """See :func:`mannkern.functional.cosine_read`."""
    _, read, weights, *_ = forward(memory, None, None, key, None, None, strength, 1, False, 0.0)
    return read, weights


def lrua_step(
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    """The step's results (see :func:`mannkern.functional.lrua_step`) and the marks of the least used slots (B, N)."""
    return forward(memory, read_weights, usage, key, add, gate, strength, num_least_used, per_head, decay)


def forward(
    memory: Tensor,
    read_weights: Maybe,
    usage: Maybe,
    key: Tensor,
    add: Maybe,
    gate: Maybe,
    strength: Maybe,
    n: int,
    per_head: bool,
    decay: float,
    marks: Maybe = None,
) -> tuple[Any, ...]:
    """Of a step, or with key and strength alone of a read. ``marks``: of a memory in tiles, where they are known."""
    (B, N, W), R = memory.shape, key.shape[1]
    n = told_apart(n, per_head, R)
    dtype = wide(memory)
    blocks = memory_blocks(N, W, dtype)
    empty = partial(torch.empty, dtype=dtype, device=memory.device)
    memory, read_weights, usage, key, add, gate, strength, marks = prepare(
        memory, read_weights, usage, key, add, gate, strength, marks
    )
    weights, memory_out, usage_out, write_weights = empty(B, R, N), None, None, None
    if usage is not None:
        memory_out, usage_out, write_weights = empty(B, N, W), empty(B, N), empty(B, R, N)
        if blocks.whole:
            marks = torch.empty(B, N, dtype=torch.int8, device=memory.device)
        elif marks is None:
            marks = marks_of(usage, n)
    parts = (B, blocks.tiles, R)
    top, total = (None, None) if blocks.whole else (empty(parts), empty(parts))
    read = empty(B, R, W) if blocks.whole else empty(*parts, W)
    run(
        step.step_forward, (B, blocks.tiles), blocks.warps,
        memory, read_weights, usage, key, add, gate, strength, marks,
        memory_out, read, weights, usage_out, write_weights, top, total,
        **constants_of(memory, R, blocks), n=n, PER_HEAD=per_head, DECAY=decay, WHOLE=blocks.whole,
    )  # fmt: skip
    if top is not None and total is not None:
        read, top, total = _join(read, top, total)
        rows = slot_blocks(N)
        run(
            step.step_finish, (B, rows.tiles), rows.warps, usage, top, total, weights, usage_out,
            N=N, R=R, DECAY=decay, BN=rows.BN, ACC=acc(dtype),
        )  # fmt: skip
    return memory_out, read, weights, usage_out, write_weights, marks


def _join(reads: Tensor, tops: Tensor, totals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reads (B, R, W) of the parts of a softmax over tiles, its largest logits and its sums (B, R)."""
    top = tops.amax(1)
    scale = torch.exp(tops - top.unsqueeze(1))
    total = (scale * totals).sum(1)
    return (reads * (scale / total.unsqueeze(1)).unsqueeze(-1)).sum(1), top, total


def cosine_read_backward(
    grad_read: Maybe, grad_read_weights: Maybe, memory: Tensor, key: Tensor, strength: Maybe, read_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, key and strength; the last is empty without strengths."""
    to_memory, _, _, to_key, _, _, to_strength = backward(
        None, grad_read, grad_read_weights, None, None, None, key, None, None, strength, memory, read_weights, None,
        1, False, 0.0,
    )  # fmt: skip
    return to_memory, to_key, to_strength


def lrua_step_backward(
    grad_memory: Maybe,
    grad_read: Maybe,
    grad_read_weights: Maybe,
    grad_usage: Maybe,
    grad_write_weights: Maybe,
    previous_read_weights: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Maybe,
    memory: Tensor,
    read_weights: Tensor,
    marks: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    """Gradients of memory, read weights, usage, key, add, gate and strength; the last is empty without strengths."""
    return backward(
        grad_memory, grad_read, grad_read_weights, grad_usage, grad_write_weights, previous_read_weights, key, add,
        gate, strength, memory, read_weights, marks, num_least_used, per_head, decay,
    )  # fmt: skip


def backward(
    grad_memory: Maybe,
    grad_read: Maybe,
    grad_weights: Maybe,
    grad_usage: Maybe,
    grad_write_weights: Maybe,
    previous: Maybe,
    key: Tensor,
    add: Maybe,
    gate: Maybe,
    strength: Maybe,
    memory: Tensor,
    weights: Tensor,
    marks: Maybe,
    n: int,
    per_head: bool,
    decay: float,
) -> tuple[Any, ...]:
    """Of a step; of a read where ``previous``, ``add``, ``gate`` and ``marks`` are None."""
    B, N, W = memory.shape
    blocks = memory_blocks(N, W, wide(memory))
    sizes = constants_of(memory, key.shape[1], blocks)
    dtype = memory.dtype
    to_memory, to_key = new_gradient(memory), new_parts(key, blocks.tiles)
    to_strength = None if strength is None else new_parts(strength, blocks.tiles)
    to_weights, to_usage, to_add, to_gate = None, None, None, None
    if previous is not None and add is not None and gate is not None:
        to_weights, to_usage = new_gradient(previous), weights.new_empty(B, N)
        to_add, to_gate = new_parts(add, blocks.tiles), new_parts(gate, blocks.tiles)
    grad_memory, grad_read, grad_weights, grad_usage, grad_write_weights, previous, key, add, gate, strength = prepare(
        grad_memory, grad_read, grad_weights, grad_usage, grad_write_weights, previous, key, add, gate, strength
    )
    memory, weights, marks = prepare(memory, weights, marks)
    grid = (B, blocks.tiles)
    mean = None
    if not blocks.whole:
        means = weights.new_empty(B, blocks.tiles, key.shape[1])
        run(
            step.step_mean, grid, blocks.warps, memory, weights, grad_read, grad_weights, grad_usage, means, **sizes
        )  # fmt: skip
        mean = means.sum(1)
    run(
        step.step_backward, grid, blocks.warps,
        grad_memory, grad_read, grad_weights, grad_usage, grad_write_weights, mean,
        previous, key, add, gate, strength, memory, weights, marks,
        to_memory, to_weights, to_usage, to_key, to_add, to_gate, to_strength,
        **sizes, n=told_apart(n, per_head, key.shape[1]), PER_HEAD=per_head, DECAY=decay,
    )  # fmt: skip
    parts = ((to_key, key), (to_add, add), (to_gate, gate), (to_strength, strength))
    sums = [None if x is None or like is None else sum_parts(x, like.dtype) for x, like in parts]
    if previous is not None and to_weights is not None:
        to_weights = to_weights.to(previous.dtype)
    to_strength = key.new_empty(B, 0) if sums[3] is None else sums[3]
    return to_memory.to(dtype), to_weights, to_usage, *sums[:3], to_strength
