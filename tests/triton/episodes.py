"""A MANN on Triton for the tests of its episode as one operation."""

from __future__ import annotations

from typing import Any

import torch

from mannkern import MANN
from tests.memories.sequences import build

SMALL = (3, 5, 7, 4, 2)  # F, D, N, W, R


def mann(sizes: tuple[int, ...] = SMALL, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    return build(MANN, sizes, dtype, backend="triton", **options)
