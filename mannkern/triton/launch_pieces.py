"""Launchers of the least used slots, the additive write and the usage update alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.triton import paths, pieces, select
from mannkern.triton.launch import (
    Maybe,
    acc,
    constants_of,
    new_gradient,
    new_parts,
    prepare,
    run,
    sum_parts,
    wide_empty,
)
from mannkern.triton.paths import memory_blocks, slot_blocks, wide


def _search(usage: Tensor, n: int) -> Tensor:
    """The n least used slots (B, n), ascending, where a row is more than one program searches."""
    B, N = usage.shape
    if paths.sorts(n):
        return torch.sort(usage, dim=-1, stable=True).indices[:, :n]
    tiles = -(-N // paths.ROW_SLOTS)
    found = usage.new_empty((B, tiles, n), dtype=torch.int32)
    best = usage.new_empty((B, n), dtype=torch.int32)
    constants = {"N": N, "n": n, "ACC": acc(wide(usage))}
    run(select.select_least_used, (B, tiles), 16, usage, None, found, COUNT=N, BN=paths.ROW_SLOTS, **constants)
    BN = paths.power_of_two(tiles * n)
    run(select.select_least_used, (B, 1), 1, usage, found, best, COUNT=tiles * n, BN=BN, **constants)
    return best.long()


def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """See :func:`mannkern.functional.least_used_mask`."""
    (usage,) = prepare(usage)
    B, N = usage.shape
    if paths.selection(N, n) != "row":
        return torch.zeros_like(usage).scatter_(1, _search(usage, n), 1.0)
    mask = usage.new_empty(usage.shape)
    BN = paths.power_of_two(N)
    run(select.mark_least_used, (B,), paths.row_warps(BN), usage, mask, N=N, n=n, BN=BN, ACC=acc(wide(usage)))
    return mask


def marks_of(usage: Tensor, n: int) -> Tensor:
    """1 + rank at the n least used slots, 0 elsewhere; ranks past an int8 are not told apart."""
    slots = _search(usage, n)
    ranks = torch.arange(1, n + 1, device=usage.device).clamp_(max=127).to(torch.int8)
    return usage.new_zeros(usage.shape, dtype=torch.int8).scatter_(1, slots, ranks.expand(slots.shape))


def additive_write(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Maybe) -> Tensor:
    """See :func:`mannkern.functional.additive_write`."""
    blocks = memory_blocks(memory.shape[1], memory.shape[2], wide(memory))
    out = wide_empty(memory)
    tensors = prepare(memory, write_weights, add, reset)
    constants = constants_of(memory, add.shape[1], blocks)
    run(pieces.write_forward, (len(memory), blocks.tiles), blocks.warps, *tensors, out, **constants)
    return out


def additive_write_backward(
    grad: Tensor, write_weights: Tensor, add: Tensor, reset: Maybe
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, write weights and add."""
    blocks = memory_blocks(grad.shape[1], grad.shape[2], grad.dtype)
    to_memory, to_weights = new_gradient(grad), new_gradient(write_weights)
    to_add = new_parts(add, blocks.tiles)
    tensors = prepare(grad, write_weights, add, reset)
    grid = (len(grad), blocks.tiles)
    constants = constants_of(grad, add.shape[1], blocks)
    run(pieces.write_backward, grid, blocks.warps, *tensors, to_memory, to_weights, to_add, **constants)
    return to_memory, to_weights.to(write_weights.dtype), sum_parts(to_add, add.dtype)


def usage_update(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    """See :func:`mannkern.functional.usage_update`."""
    B, R, N = read_weights.shape
    out = wide_empty(usage)
    blocks = slot_blocks(N)
    run(
        pieces.usage_forward, (B, blocks.tiles), blocks.warps, *prepare(usage, read_weights, write_weights), out,
        N=N, R=R, DECAY=decay, BN=blocks.BN, ACC=acc(wide(usage)),
    )  # fmt: skip
    return out


def usage_update_backward(grad: Tensor, num_heads: int, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of usage, read weights and write weights."""
    of_weights = grad.unsqueeze(1).repeat(1, num_heads, 1)
    return decay * grad, of_weights, of_weights.clone()
