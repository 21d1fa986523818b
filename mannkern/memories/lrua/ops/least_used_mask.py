"""The operation ``least_used_mask``: least used (docs/equations.md). It has no gradient: the choice is a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.library import library, operation


@operation("least_used_mask", "default", "recompute")
def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """usage (B, N) -> mask (B, N)."""
    return usage.new_empty(usage.shape)


def _under_vmap(search: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """The search in usages (., B, N) as one of a larger batch."""

    def rule(info: Any, in_dims: tuple[int, None], usage: Tensor, n: int) -> tuple[Tensor, int]:
        stacked = usage.movedim(in_dims[0], 0)
        return search(stacked.flatten(0, 1), n).unflatten(0, stacked.shape[:2]), 0

    return rule


for _name, _search in (("", least_used_mask["default"]), (".recompute", least_used_mask["recompute"])):
    torch.library.register_vmap(f"mannkern::least_used_mask{_name}", _under_vmap(_search), lib=library)
