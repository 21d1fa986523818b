"""Kernels of the operation ``least_used_mask``, and of the search for least used slots in a tiled memory.

A usage row that one program can hold is searched by one; a longer row is searched in tiles, then among their winners.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton.block_math import load_slots, smallest, sort_key


@triton.jit
def mark_least_used(
    p_usage, p_mask, N: tl.constexpr, n: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """The mask of the n least used slots of a usage row that fits one program. Grid (B).

    Bytes per episode in float32: 8 N. Operations: 5 n N by rounds, about 150 N by bisection.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    mark = smallest(sort_key(load_slots(p_usage + i_b * N, i_n, m_n, ACC), ACC), i_n, m_n, n, ACC)
    tl.store(p_mask + i_b * N + i_n, (mark > 0).to(ACC), mask=m_n)


@triton.jit
def select_least_used(
    p_usage, p_slots, p_slots_out,
    N: tl.constexpr, COUNT: tl.constexpr, n: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The n least used slots of each tile of COUNT candidates, ascending, in p_slots_out (B, tiles, n).

    Grid (B, tiles). The candidates are the slots p_slots (B, COUNT), or all N slots if it is None. Of equal usages
    the earlier candidate comes first. A tile with fewer than n candidates is filled up with N, which is no slot.

    Bytes per episode in float32: 4 COUNT, or 8 COUNT with p_slots. Operations: 5 n COUNT.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_part = i_b * tl.num_programs(1) + tl.program_id(1)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    slot = i_n
    if p_slots is not None:
        slot = tl.load(p_slots + i_b * COUNT + i_n, mask=i_n < COUNT, other=N)
    m_n = (i_n < COUNT) & (slot < N)
    mark = smallest(sort_key(load_slots(p_usage + i_b * N, slot, m_n, ACC), ACC), i_n, m_n, n, ACC)
    for rank in tl.static_range(n):
        tl.store(p_slots_out + i_part * n + rank, tl.min(tl.where(mark == rank + 1, slot, N), 0))
