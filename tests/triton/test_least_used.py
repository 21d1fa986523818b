"""The search for least used slots on every path: ties, signed zeros, infinities and NaN."""

from __future__ import annotations

import pytest
import torch

from mannkern import functional
from mannkern.triton import tiling
from tests.helpers import same
from tests.triton.table import LONG, MANY


def test_example() -> None:
    """Of usages 3, 1, 2, 1 the two least used are slots 1 and 3, and of the two the lower index comes first."""
    usage = torch.tensor([[3.0, 1, 2, 1]])
    assert functional.least_used_mask(usage, 1, backend="triton").tolist() == [[0, 1, 0, 0]]
    assert functional.least_used_mask(usage, 2, backend="triton").tolist() == [[0, 1, 0, 1]]


def usages(N: int, dtype: torch.dtype) -> torch.Tensor:
    """Five episodes: two with many ties and special values, one with ties alone, one with NaN alone, one without."""
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
