"""The search for the least used slots: the n smallest usages of a program, and kernels that search whole usage rows.

Step and scan call ``smallest`` inside their kernels. The kernels here serve the operation ``least_used_mask`` and a
memory in tiles: a usage row that fits one program is searched by one, a longer row in tiles, then among their winners.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import tiling
from mannkern.triton.block_math import load_slots

INT32_MAX = tl.constexpr(2147483647)
MAX_ROUNDS = tl.constexpr(tiling.MAX_ROUNDS)  # for a larger n, `smallest` bisects


@triton.jit
def sort_key(x, ACC: tl.constexpr):
    """Integers in the order of the floats x: -0 equals 0; NaN is above every number and below the largest integer."""
    INT: tl.constexpr = tl.int64 if ACC == tl.float64 else tl.int32
    BITS: tl.constexpr = 63 if ACC == tl.float64 else 31
    TOP: tl.constexpr = 2**BITS - 1
    bits = (x + 0.0).to(INT, bitcast=True)
    return tl.where(x == x, bits ^ ((bits >> BITS) & TOP), TOP - 1)


@triton.jit
def smallest(key, i_n, m_n, n: tl.constexpr, ACC: tl.constexpr):
    """Mark the n smallest keys among those where m_n is true; of equal keys the lower index i_n comes first.

    The smallest key gets mark 1, the other n - 1 get more, all others 0. Up to n = MAX_ROUNDS the mark is 1 + rank.
    """
    BITS: tl.constexpr = 63 if ACC == tl.float64 else 31
    if n <= MAX_ROUNDS:
        return smallest_one_by_one(key, i_n, m_n, n, 2**BITS - 1)
    else:
        return smallest_by_bisection(key, i_n, m_n, n, BITS)


@triton.jit
def smallest_one_by_one(key, i_n, m_n, n: tl.constexpr, TOP: tl.constexpr):
    """``smallest`` by n rounds, each of which marks the minimum of what is left: the fastest way for a small n."""
    key = tl.where(m_n, key, TOP)
    mark = i_n * 0
    for rank in range(n):
        least = tl.min(key, 0)
        first = tl.min(tl.where((key == least) & m_n & (mark == 0), i_n, INT32_MAX), 0)
        mark = tl.where(i_n == first, rank + 1, mark)
        key = tl.where(i_n == first, TOP, key)
    return mark


@triton.jit
def smallest_by_bisection(key, i_n, m_n, n: tl.constexpr, BITS: tl.constexpr):
    """``smallest`` by bisection, whose work does not grow with n.

    The first loop finds the bits of the n-th smallest key, the second those of the last marked index among its equals.
    """
    least = tl.min(tl.where(m_n, key, 2**BITS - 1), 0)
    first = tl.min(tl.where((key == least) & m_n, i_n, INT32_MAX), 0)
    zero = least * 0
    bound = tl.where(count((key < 0) & m_n) >= n, zero - 2 ** (BITS - 1) - 2 ** (BITS - 1), zero)
    for bit in range(BITS):
        higher = bound + (zero + 1 << (BITS - 1 - bit))
        bound = tl.where(count((key < higher) & m_n) >= n, bound, higher)
    equal = (key == bound) & m_n
    missing = n - count((key < bound) & m_n)
    last = first * 0
    for bit in range(17):
        later = last + (1 << (16 - bit))
        last = tl.where(count(equal & (i_n < later)) >= missing, last, later)
    chosen = ((key < bound) & m_n) | (equal & (i_n <= last))
    return tl.where(i_n == first, 1, tl.where(chosen, 2, 0))


@triton.jit
def count(m):
    """The number of true elements."""
    return tl.sum(m.to(tl.int32), 0)


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
