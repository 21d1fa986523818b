"""Launchers of the operations ``lrua_step`` and ``cosine_read``, forward and backward.

A cosine read is a step without its write, so that the step's launchers serve both.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.triton import step
from mannkern.triton.launch.common import (
    Maybe,
    empty_gradient,
    empty_tile_gradients,
    make_all_aligned,
    memory_constants,
    num_ranked_slots,
    run,
    sum_tiles,
    triton_dtype,
)
from mannkern.triton.launch.least_used import least_used_marks
from mannkern.triton.tiling import memory_blocks, slot_blocks


def cosine_read(memory: Tensor, key: Tensor, strength: Maybe) -> tuple[Tensor, Tensor]:
    """See :func:`mannkern.functional.cosine_read`."""
    _, read, weights, *_ = lrua_step(memory, None, None, key, None, None, strength, 1, False, 0.0)
    return read, weights


def cosine_read_backward(
    grad_read: Maybe, grad_read_weights: Maybe, memory: Tensor, key: Tensor, strength: Maybe, read_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, key and strength; the last is empty without strengths."""
    d_memory, _, _, d_key, _, _, d_strength = lrua_step_backward(
        None, grad_read, grad_read_weights, None, None, None, key, None, None, strength, memory, read_weights, None,
        1, False, 0.0,
    )  # fmt: skip
    return d_memory, d_key, d_strength


def lrua_step(
    memory: Tensor,
    read_weights: Maybe,
    usage: Maybe,
    key: Tensor,
    add: Maybe,
    gate: Maybe,
    strength: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
    marks: Maybe = None,
) -> tuple[Any, ...]:
    """The step's results (see :func:`mannkern.functional.lrua_step`), and the marks of the least used slots (B, N).

    If ``read_weights``, ``usage``, ``add`` and ``gate`` are None, it is the cosine read alone: it writes nothing, and
    all results but ``read`` and ``read_weights`` are None.
    ``marks`` spares a step in tiles the search, where the backward pass of a scan computes a step again.
    """
    (B, N, W), R = memory.shape, key.shape[1]
    n = num_ranked_slots(num_least_used, per_head, R)
    dtype = compute_dtype(memory)
    blocks = memory_blocks(N, W, dtype)
    empty = partial(torch.empty, dtype=dtype, device=memory.device)
    memory, read_weights, usage, key, add, gate, strength, marks = make_all_aligned(
        memory, read_weights, usage, key, add, gate, strength, marks
    )
    weights, memory_out, usage_out, write_weights = empty(B, R, N), None, None, None
    if usage is not None:
        memory_out, usage_out, write_weights = empty(B, N, W), empty(B, N), empty(B, R, N)
        if blocks.whole:
            marks = torch.empty(B, N, dtype=torch.int8, device=memory.device)
        elif marks is None:
            marks = least_used_marks(usage, n)
    tiles = (B, blocks.tiles, R)
    top, total = (None, None) if blocks.whole else (empty(tiles), empty(tiles))
    read = empty(B, R, W) if blocks.whole else empty(*tiles, W)
    run(
        step.step_forward, (B, blocks.tiles), blocks.warps,
        memory, read_weights, usage, key, add, gate, strength, marks,
        memory_out, read, weights, usage_out, write_weights, top, total,
        **memory_constants(memory, R, blocks), n=n, PER_HEAD=per_head, DECAY=decay, WHOLE=blocks.whole,
    )  # fmt: skip
    if top is not None and total is not None:
        read, top, total = _join_tiles(read, top, total)
        rows = slot_blocks(N)
        run(
            step.step_finish, (B, rows.tiles), rows.warps, usage, top, total, weights, usage_out,
            N=N, R=R, DECAY=decay, BN=rows.BN, ACC=triton_dtype(dtype),
        )  # fmt: skip
    return memory_out, read, weights, usage_out, write_weights, marks


def _join_tiles(reads: Tensor, tops: Tensor, totals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The reads (B, R, W), largest logits and softmax sums (B, R) over all slots, from those of each tile."""
    top = tops.amax(1)
    scale = torch.exp(tops - top.unsqueeze(1))
    total = (scale * totals).sum(1)
    return (reads * (scale / total.unsqueeze(1)).unsqueeze(-1)).sum(1), top, total


def lrua_step_backward(
    grad_memory: Maybe,
    grad_read: Maybe,
    grad_read_weights: Maybe,
    grad_usage: Maybe,
    grad_write_weights: Maybe,
    previous_read_weights: Maybe,
    key: Tensor,
    add: Maybe,
    gate: Maybe,
    strength: Maybe,
    memory: Tensor,
    read_weights: Tensor,
    marks: Maybe,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Any, ...]:
    """Gradients of memory, read weights, usage, key, add, gate and strength; the last is empty without strengths.

    ``memory`` and ``read_weights`` are the step's results. If ``previous_read_weights``, ``add``, ``gate`` and
    ``marks`` are None, it is the backward of the cosine read alone, and the gradients of what it lacks are None.
    """
    (B, N, W), R = memory.shape, key.shape[1]
    blocks = memory_blocks(N, W, compute_dtype(memory))
    constants = memory_constants(memory, R, blocks)
    dtype, weights_dtype = memory.dtype, None
    d_memory, d_key = empty_gradient(memory), empty_tile_gradients(key, blocks.tiles)
    d_strength = None if strength is None else empty_tile_gradients(strength, blocks.tiles)
    d_weights, d_usage, d_add, d_gate = None, None, None, None
    if previous_read_weights is not None and add is not None and gate is not None:
        weights_dtype = previous_read_weights.dtype
        d_weights, d_usage = empty_gradient(previous_read_weights), read_weights.new_empty(B, N)
        d_add, d_gate = empty_tile_gradients(add, blocks.tiles), empty_tile_gradients(gate, blocks.tiles)
    grad_memory, grad_read, grad_read_weights, grad_usage, grad_write_weights = make_all_aligned(
        grad_memory, grad_read, grad_read_weights, grad_usage, grad_write_weights
    )
    previous_read_weights, key, add, gate, strength, memory, read_weights, marks = make_all_aligned(
        previous_read_weights, key, add, gate, strength, memory, read_weights, marks
    )
    grid = (B, blocks.tiles)
    mean = None
    if not blocks.whole:
        means = read_weights.new_empty(B, blocks.tiles, R)
        run(
            step.step_mean, grid, blocks.warps,
            memory, read_weights, grad_read, grad_read_weights, grad_usage, means, **constants,
        )  # fmt: skip
        mean = means.sum(1)
    run(
        step.step_backward, grid, blocks.warps,
        grad_memory, grad_read, grad_read_weights, grad_usage, grad_write_weights, mean,
        previous_read_weights, key, add, gate, strength, memory, read_weights, marks,
        d_memory, d_weights, d_usage, d_key, d_add, d_gate, d_strength,
        **constants, n=num_ranked_slots(num_least_used, per_head, R), PER_HEAD=per_head, DECAY=decay,
    )  # fmt: skip
    d_interface = [
        None if d_x is None or x is None else sum_tiles(d_x, x.dtype)
        for d_x, x in ((d_key, key), (d_add, add), (d_gate, gate), (d_strength, strength))
    ]
    if d_interface[-1] is None:
        d_interface[-1] = key.new_empty(B, 0)
    return d_memory.to(dtype), None if d_weights is None else d_weights.to(weights_dtype), d_usage, *d_interface
