"""Block mathematics in kernels made for these tests: the order of floats, the n smallest, norms."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from mannkern.triton.block_math import MAX_ROUNDS, norm, smallest, smallest_by_bisection, sort_key


@triton.jit
def mark_kernel(p_x, p_mark, N: tl.constexpr, BN: tl.constexpr, n: tl.constexpr, BISECT: tl.constexpr):
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    key = sort_key(tl.load(p_x + i_n, mask=m_n, other=0.0), tl.float32)
    if BISECT:
        tl.store(p_mark + i_n, smallest_by_bisection(key, i_n, m_n, n, 31), mask=m_n)
    else:
        tl.store(p_mark + i_n, smallest(key, i_n, m_n, n, tl.float32), mask=m_n)


@triton.jit
def norm_kernel(p_x, p_norm, W: tl.constexpr):
    i_w = tl.arange(0, W)
    tl.store(p_norm, norm((tl.load(p_x + i_w),), tl.float32))


def marks(x: list[float], n: int, bisect: bool = False) -> list[int]:
    mark = torch.empty(len(x), dtype=torch.int32)
    mark_kernel[(1,)](torch.tensor(x), mark, len(x), triton.next_power_of_2(len(x)), n, bisect)
    return mark.tolist()


def test_example() -> None:
    """Of 3, 1, 2 the two smallest are 1 (rank 0, mark 1) and 2 (rank 1, mark 2)."""
    assert marks([3.0, 1.0, 2.0], 2) == [0, 1, 2]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("x", "ranks"),
    [
        ([0.0, -0.0, 0.0], [0, 1, 2]),  # -0 equals 0, and of equal values the lower index is first
        ([INF, NAN, -INF, 1.0, -1.0], [3, 4, 0, 2, 1]),
        ([-NAN, NAN, INF], [1, 2, 0]),  # whatever the sign bit of NaN
        ([1e-45, 0.0, -1e-45], [2, 1, 0]),  # subnormal numbers
    ],
)
def test_order(x: list[float], ranks: list[int]) -> None:
    for n in range(1, len(x) + 1):
        assert marks(x, n) == [rank + 1 if rank < n else 0 for rank in ranks]
        assert marks(x, n, bisect=True) == [0 if rank >= n else 1 if rank == 0 else 2 for rank in ranks]


@pytest.mark.parametrize("n", [1, 2, 7, MAX_ROUNDS.value, MAX_ROUNDS.value + 1, 29])
def test_rounds_and_bisection_mark_the_same(n: int) -> None:
    x = (torch.arange(29) * 7 % 10).tolist()  # with ties
    first, second = marks(x, n), marks(x, n, bisect=True)
    assert [m > 0 for m in first] == [m > 0 for m in second]
    assert sum(m > 0 for m in first) == n
    assert first.index(1) == second.index(1)


@pytest.mark.parametrize(
    ("x", "expected"), [([3.0, 4.0], 5.0), ([0.0, 0.0], 1e-8), ([3e30, 4e30], 5e30), ([3e-9, 4e-9], 1e-8)]
)
def test_norm(x: list[float], expected: float) -> None:
    """At least eps; and finite where the squares overflow."""
    out = torch.empty(1)
    norm_kernel[(1,)](torch.tensor(x), out, len(x))
    torch.testing.assert_close(out, torch.tensor([expected]))
