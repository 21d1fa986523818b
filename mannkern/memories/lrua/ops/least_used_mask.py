"""The operation ``least_used_mask``: least used (docs/equations.md). It has no gradient: the choice is a constant."""

from __future__ import annotations

from torch import Tensor

from mannkern.memories.library import operation


@operation("least_used_mask", "default", "recompute")
def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """usage (B, N) -> mask (B, N)."""
    return usage.new_empty(usage.shape)
