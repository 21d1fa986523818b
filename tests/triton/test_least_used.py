"""The search for least used slots, inside a program and on every path: ties, signed zeros, infinities and NaN."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from mannkern import functional
from mannkern.triton import tiling
from mannkern.triton.least_used import MAX_ROUNDS, smallest, smallest_by_bisection, sort_key
from tests.helpers import same
from tests.triton.table import LONG, MANY


def test_example() -> None:
    """Of usages 3, 1, 2, 1 the two least used are slots 1 and 3, and of the two the lower index comes first."""
    usage = torch.tensor([[3.0, 1, 2, 1]])
    assert functional.least_used_mask(usage, 1, backend="triton").tolist() == [[0, 1, 0, 0]]
    assert functional.least_used_mask(usage, 2, backend="triton").tolist() == [[0, 1, 0, 1]]


@triton.jit
def mark_kernel(p_x, p_mark, N: tl.constexpr, BN: tl.constexpr, n: tl.constexpr, BISECT: tl.constexpr):
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    key = sort_key(tl.load(p_x + i_n, mask=m_n, other=0.0), tl.float32)
    if BISECT:
        tl.store(p_mark + i_n, smallest_by_bisection(key, i_n, m_n, n, 31), mask=m_n)
    else:
        tl.store(p_mark + i_n, smallest(key, i_n, m_n, n, tl.float32), mask=m_n)


def marks(x: list[float], n: int, bisect: bool = False) -> list[int]:
    mark = torch.empty(len(x), dtype=torch.int32)
    mark_kernel[(1,)](torch.tensor(x), mark, len(x), triton.next_power_of_2(len(x)), n, bisect)
    return mark.tolist()


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


def usages(N: int, dtype: torch.dtype) -> torch.Tensor:
    """Five rows of usage: two have many ties and special values, one has only ties, one only NaN, one neither."""
    g = torch.Generator().manual_seed(N)
    mixed = torch.randint(-4, 5, (2, N), generator=g).to(dtype) / 4
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.nan
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.inf
    mixed[1, torch.rand(N, generator=g) < 0.1] = -torch.inf
    mixed[:, ::7] *= -0.0
    alone = torch.stack([torch.full((N,), x, dtype=dtype) for x in (1.0, torch.nan)])
    return torch.cat([mixed, alone, torch.randn(1, N, generator=g, dtype=dtype)])


SIZES = {  # path: the smallest and largest N and n of each
    "row": [(N, n) for N in (1, 40, tiling.ROW_SLOTS) for n in (1, MANY - 1, MANY, N) if n <= N],
    "tiles": [(N, n) for N in (LONG, 2 * LONG) for n in (1, MANY - 1)],
    "sort": [(N, n) for N in (LONG, 2 * LONG) for n in (MANY, N)],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("path", "N", "n"), [(path, *sizes) for path, several in SIZES.items() for sizes in dict.fromkeys(several)]
)
def test_least_used_mask(path: str, N: int, n: int, dtype: torch.dtype) -> None:
    assert tiling.search_path(N, n) == path
    usage = usages(N, dtype)
    got, expected = (functional.least_used_mask(usage, n, backend=name) for name in ("triton", "reference"))
    assert same(got, expected)
    assert (got.sum(-1) == n).all()
