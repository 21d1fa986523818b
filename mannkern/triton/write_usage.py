"""Kernels of the operations ``additive_write`` and ``usage_update``.

Every grid is (B, tiles): no sum runs over slots, so each program handles one tile of an episode's slots.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import lrua
from mannkern.triton.block_math import (
    add_outer,
    clear,
    dot,
    load_row,
    load_rows,
    load_slots,
    store_row,
    store_rows,
    weighted_sum,
)


@triton.jit
def write_forward(
    p_memory, p_write_weights, p_add, p_reset, p_memory_out,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write: M'(i) = M(i) + sum_h w_w[h](i) a[h]. Slot p_reset (B) is set to zero first, unless that is None.

    Bytes per episode in float32: memory read and written 8 N W, write weights 4 R N. FLOPs: 2 N W R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    m_n = i_n < N
    X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    if p_reset is not None:
        X = clear(X, i_n == tl.load(p_reset + i_b))
    for h in range(R):
        w_w = load_slots(p_write_weights + (i_b * R + h) * N, i_n, m_n, ACC)
        X = add_outer(X, w_w, load_row(p_add + (i_b * R + h) * W, W, W0, W1, ACC))
    store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)


@triton.jit
def write_backward(
    p_grad, p_write_weights, p_add, p_reset, p_d_memory, p_d_write_weights, p_d_add,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``write_forward``: gradients of memory and write weights, and each tile's summand of that of add.

    The summands p_d_add are (B, tiles, R, W), because add's gradient is a sum over slots.

    Bytes per episode in float32: gradient of memory read and written 8 N W, write weights and their gradient 8 R N.
    FLOPs: 4 N W R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_part = i_b * tl.num_programs(1) + tl.program_id(1)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    m_n = i_n < N
    D = load_rows(p_grad + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    for h in range(R):
        w_w = load_slots(p_write_weights + (i_b * R + h) * N, i_n, m_n, ACC)
        a = load_row(p_add + (i_b * R + h) * W, W, W0, W1, ACC)
        tl.store(p_d_write_weights + (i_b * R + h) * N + i_n, dot(D, a, ACC), mask=m_n)
        store_row(p_d_add + (i_part * R + h) * W, weighted_sum(D, w_w), W, W0, W1)
    if p_reset is not None:
        D = clear(D, i_n == tl.load(p_reset + i_b))
    store_rows(p_d_memory + i_b * N * W, D, i_n, m_n, W, W0, W1)


@triton.jit
def usage_forward(
    p_usage, p_read_weights, p_write_weights, p_usage_out,
    N: tl.constexpr, R: tl.constexpr, DECAY: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Usage: u' = decay u + sum_h w_r[h] + sum_h w_w[h].

    Bytes per episode in float32: weights 8 R N, usage 8 N. FLOPs: 2 R N.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    m_n = i_n < N
    reads = tl.zeros_like(i_n).to(ACC)
    writes = tl.zeros_like(i_n).to(ACC)
    for h in range(R):
        reads += load_slots(p_read_weights + (i_b * R + h) * N, i_n, m_n, ACC)
        writes += load_slots(p_write_weights + (i_b * R + h) * N, i_n, m_n, ACC)
    usage = lrua.update_usage(load_slots(p_usage + i_b * N, i_n, m_n, ACC), reads, writes, DECAY)
    tl.store(p_usage_out + i_b * N + i_n, usage, mask=m_n)
