"""Kernels of the least used slots alone."""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton.blocks import load_slots, order, smallest


@triton.jit
def mark_least_used(
    p_usage, p_mask, N: tl.constexpr, n: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Grid (B): the mask of the n least used slots of a row that fits a program. Bytes of an episode, float32: 8 N.
    Operations: 5 n N one by one, about 150 N by bisection."""
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    mark = smallest(order(load_slots(p_usage + i_b * N, i_n, m_n, ACC), ACC), i_n, m_n, n, ACC)
    tl.store(p_mask + i_b * N + i_n, (mark > 0).to(ACC), mask=m_n)


@triton.jit
def select_least_used(
    p_usage, p_slots, p_slots_out,
    N: tl.constexpr, COUNT: tl.constexpr, n: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (B, tiles): the n least used of each tile of COUNT candidates, ascending, into (B, tiles, n); N where a tile
    has fewer. The candidates are p_slots (B, COUNT), or all N slots when it is None; among equals, the first.

    Bytes of an episode, float32: 4 COUNT, or 8 with p_slots. Operations: 5 n COUNT.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_part = i_b * tl.num_programs(1) + tl.program_id(1)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    slot = i_n
    if p_slots is not None:
        slot = tl.load(p_slots + i_b * COUNT + i_n, mask=i_n < COUNT, other=N)
    m_n = (i_n < COUNT) & (slot < N)
    mark = smallest(order(load_slots(p_usage + i_b * N, slot, m_n, ACC), ACC), i_n, m_n, n, ACC)
    for rank in tl.static_range(n):
        tl.store(p_slots_out + i_part * n + rank, tl.min(tl.where(mark == rank + 1, slot, N), 0))
