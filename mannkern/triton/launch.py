"""What launchers share. They hold shapes, allocation and the choice of path; the dispatcher calls them with validated
tensors. A memory of float32 or half precision is computed in float32 and one of float64 in float64; results have that
type, gradients of keys, adds, gates, strengths and weights that of their argument.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from mannkern.triton.paths import Blocks, wide

Maybe = Tensor | None


def run(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
    """Launch on the device and current stream of the first tensor; nothing for a grid of nothing."""
    if 0 in grid:
        return
    device = next(x.device for x in args if isinstance(x, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*args, **constants, num_warps=warps, num_stages=1, **compile_options(warps))


def compile_options(warps: int) -> dict[str, int]:
    """Let NVIDIA's assembler use all registers that fit: left to itself it spills for the sake of occupancy."""
    return {"maxnreg": min(255, 65536 // (32 * warps))} if torch.version.hip is None else {}


def ready(x: Tensor) -> Tensor:
    """Contiguous, and aligned so that one compiled kernel serves every view."""
    x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone()


def prepare(*tensors: Maybe) -> list[Any]:
    """Those that are there made ready."""
    return [None if x is None else ready(x) for x in tensors]


def wide_empty(x: Tensor) -> Tensor:
    """Memory for a result of x's shape."""
    return torch.empty(x.shape, dtype=wide(x), device=x.device)


def acc(dtype: torch.dtype) -> Any:
    """Triton's name of float32 or float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def told_apart(n: int, per_head: bool, R: int) -> int:
    """How many least used slots kernels look for. Head h takes that of rank h mod n, so no rank past R matters; and the
    kernels rank a few slots only, of which R is at most as many."""
    return min(n, R) if per_head else n


def constants_of(memory: Tensor, R: int, blocks: Blocks) -> dict[str, Any]:
    """What kernels over a memory are compiled for."""
    _, N, W = memory.shape
    return {"N": N, "W": W, "R": R, "BN": blocks.BN, "W0": blocks.W0, "W1": blocks.W1, "ACC": acc(wide(memory))}


def new_gradient(x: Tensor) -> Tensor:
    """Where the gradient of x goes: in x's type, but for Triton's interpreter, which truncates where a GPU rounds."""
    return wide_empty(x) if x.device.type == "cpu" else x.new_empty(x.shape)


def new_parts(x: Tensor, tiles: int) -> Tensor:
    """Where each tile's part of the gradient of x goes: (B, tiles, ...)."""
    dtype = wide(x) if tiles > 1 or x.device.type == "cpu" else x.dtype  # as in new_gradient
    return x.new_empty((x.shape[0], tiles, *x.shape[1:]), dtype=dtype)


def sum_parts(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over tiles."""
    return (parts.squeeze(1) if parts.shape[1] == 1 else parts.sum(1)).to(dtype)
