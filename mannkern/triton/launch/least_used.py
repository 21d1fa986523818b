"""Launchers of the search for least used slots: the operation ``least_used_mask``, and the marks of a tiled step."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.triton import least_used, tiling
from mannkern.triton.launch.common import make_all_aligned, run, triton_dtype


def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """See :func:`mannkern.functional.least_used_mask`."""
    (usage,) = make_all_aligned(usage)
    B, N = usage.shape
    if tiling.search_path(N, n) != "row":
        return torch.zeros_like(usage).scatter_(1, _search_tiles(usage, n), 1.0)
    mask = usage.new_empty(usage.shape)
    BN = tiling.power_of_two(N)
    run(
        least_used.mark_least_used, (B,), tiling.row_warps(BN), usage, mask,
        N=N, n=n, BN=BN, ACC=triton_dtype(compute_dtype(usage)),
    )  # fmt: skip
    return mask


def least_used_marks(usage: Tensor, n: int) -> Tensor:
    """Marks (B, N) for a step in tiles: 1 + rank at the n least used slots, 0 elsewhere.

    They are int8, so every mark past 127 is 127. Only the per-head rule needs exact ranks, and those are below 16.
    """
    slots = _search_tiles(usage, n)
    marks = torch.arange(1, n + 1, device=usage.device).clamp_(max=127).to(torch.int8)
    return usage.new_zeros(usage.shape, dtype=torch.int8).scatter_(1, slots, marks.expand(slots.shape))


def _search_tiles(usage: Tensor, n: int) -> Tensor:
    """The n least used slots (B, n), ascending. Stage one searches each tile, stage two the winners of all tiles."""
    B, N = usage.shape
    if tiling.sorts(n):
        return torch.sort(usage, dim=-1, stable=True).indices[:, :n]
    tiles = -(-N // tiling.ROW_SLOTS)
    winners = usage.new_empty((B, tiles, n), dtype=torch.int32)
    slots = usage.new_empty((B, n), dtype=torch.int32)
    constants = {"N": N, "n": n, "ACC": triton_dtype(compute_dtype(usage))}
    kernel = least_used.select_least_used
    run(kernel, (B, tiles), 16, usage, None, winners, COUNT=N, BN=tiling.ROW_SLOTS, **constants)
    BN = tiling.power_of_two(tiles * n)
    run(kernel, (B, 1), 1, usage, winners, slots, COUNT=tiles * n, BN=BN, **constants)
    return slots.long()
