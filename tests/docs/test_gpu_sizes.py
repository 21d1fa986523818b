"""The sizes of the compiled loop on a GPU that docs/pytorch.md names are those of the code."""

from __future__ import annotations

import re

import pytest
import torch

from mannkern.backends import BACKENDS
from mannkern.backends.backend import Sizes
from tests.docs.markdown import text

ROWS = re.findall(
    r"^\| (MANN|NTM)(?:, width (\d+) to (\d+))?[^|]* \| ([\d,]+)[^|]* \| ([\d,]+) \|$",
    text("docs/pytorch.md"),
    re.MULTILINE,
)


def fits(model: str, N: int, W: int, dtype: torch.dtype) -> bool:
    family, backend = ("lrua", "triton") if model == "MANN" else ("ntm", "cuda")
    return BACKENDS[backend].fused_episode(family, Sizes(N, W, 1, 100), dtype) is not None


def test_the_table_is_read() -> None:
    assert [row[:3] for row in ROWS][::6] == [("MANN", "2", "10"), ("NTM", "", "")]
    assert len(ROWS) == 7


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_sizes(row: tuple[str, ...]) -> None:
    model, first, last, *most = row
    for dtype, number in zip((torch.float32, torch.float64), most, strict=True):
        N = int(number.replace(",", ""))
        for W in {int(first or 20), int(last or 20)}:
            assert fits(model, N, W, dtype)
            assert not fits(model, N + 1, W, dtype)
