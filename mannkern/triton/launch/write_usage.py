"""Launchers of the operations ``additive_write`` and ``usage_update``, forward and backward."""

from __future__ import annotations

from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.triton import write_usage
from mannkern.triton.launch.common import (
    Maybe,
    empty_gradient,
    empty_result,
    empty_tile_gradients,
    make_all_aligned,
    memory_constants,
    run,
    sum_tiles,
    triton_dtype,
)
from mannkern.triton.tiling import memory_blocks, slot_blocks


def additive_write(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Maybe) -> Tensor:
    """See :func:`mannkern.functional.additive_write`."""
    blocks = memory_blocks(memory.shape[1], memory.shape[2], compute_dtype(memory))
    out = empty_result(memory)
    tensors = make_all_aligned(memory, write_weights, add, reset)
    constants = memory_constants(memory, add.shape[1], blocks)
    run(write_usage.write_forward, (len(memory), blocks.tiles), blocks.warps, *tensors, out, **constants)
    return out


def additive_write_backward(
    grad: Tensor, write_weights: Tensor, add: Tensor, reset: Maybe
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory, write weights and add."""
    blocks = memory_blocks(grad.shape[1], grad.shape[2], grad.dtype)
    d_memory, d_weights = empty_gradient(grad), empty_gradient(write_weights)
    d_add = empty_tile_gradients(add, blocks.tiles)
    tensors = make_all_aligned(grad, write_weights, add, reset)
    grid = (len(grad), blocks.tiles)
    constants = memory_constants(grad, add.shape[1], blocks)
    run(write_usage.write_backward, grid, blocks.warps, *tensors, d_memory, d_weights, d_add, **constants)
    return d_memory, d_weights.to(write_weights.dtype), sum_tiles(d_add, add.dtype)


def usage_update(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    """See :func:`mannkern.functional.usage_update`."""
    B, R, N = read_weights.shape
    out = empty_result(usage)
    blocks = slot_blocks(N)
    tensors = make_all_aligned(usage, read_weights, write_weights)
    run(
        write_usage.usage_forward, (B, blocks.tiles), blocks.warps, *tensors, out,
        N=N, R=R, DECAY=decay, BN=blocks.BN, ACC=triton_dtype(compute_dtype(usage)),
    )  # fmt: skip
    return out


def usage_update_backward(grad: Tensor, num_heads: int, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of usage, read weights and write weights."""
    d_weights = grad.unsqueeze(1).repeat(1, num_heads, 1)
    return decay * grad.contiguous(), d_weights, d_weights.clone()
