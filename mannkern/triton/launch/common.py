"""What the launchers share: how a kernel is launched, and how its arguments and results are laid out.

The types of all results follow one rule: a memory of float32 or half precision is computed in float32 and one of
float64 in float64; results have that type, and each gradient has the type of its argument.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.triton.tiling import Blocks

Maybe = Tensor | None
BACKEND = "cuda" if torch.version.hip is None else "hip"


def run(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first tensor, on the current stream; an empty grid launches nothing.

    With the constant EARLY, the kernel may begin before the one before it ends (``block_math.follow``).
    """
    if 0 in grid:
        return
    device = next(x.device for x in args if isinstance(x, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        options = compile_options(warps, BACKEND) | ({"launch_pdl": True} if constants.get("EARLY") else {})
        kernel[grid](*args, **constants, num_warps=warps, num_stages=1, **options)


def compile_options(warps: int, backend: str) -> dict[str, Any]:
    """Options of the compiler for the backend "cuda" or "hip".

    It fuses no product with a sum, because it would fuse one lane's product and not its partner's, so that equal slots
    got unequal bits. For NVIDIA's assembler, the register limit is all that fit: by default it spills for occupancy.
    """
    options: dict[str, Any] = {"enable_fp_fusion": False}
    return options | {"maxnreg": min(255, 65536 // (32 * warps))} if backend == "cuda" else options


def make_aligned(x: Tensor) -> Tensor:
    """x if it is contiguous and aligned to 16 bytes, else such a copy: one compiled kernel then serves every view."""
    x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone()


def make_all_aligned(*tensors: Maybe) -> list[Any]:
    """Each tensor made aligned; None stays None."""
    return [None if x is None else make_aligned(x) for x in tensors]


def empty_result(x: Tensor) -> Tensor:
    """Uninitialized memory for a result of x's shape, in the type in which x is computed."""
    return torch.empty(x.shape, dtype=compute_dtype(x), device=x.device)


def triton_dtype(dtype: torch.dtype) -> Any:
    """Triton's name of float32 or float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def num_ranked_slots(num_least_used: int, per_head: bool, R: int) -> int:
    """The number of least used slots that the kernels rank.

    With ``per_head``, head h takes the slot of rank h mod n, so that no rank past R matters. R is small enough for
    rounds of minimum, which know ranks; bisection, for a larger n, does not.
    """
    return min(num_least_used, R) if per_head else num_least_used


def memory_constants(memory: Tensor, R: int, blocks: Blocks) -> dict[str, Any]:
    """The constants that every kernel over a memory is compiled for."""
    _, N, W = memory.shape
    acc = triton_dtype(compute_dtype(memory))
    return {"N": N, "W": W, "R": R, "BN": blocks.BN, "W0": blocks.W0, "W1": blocks.W1, "ACC": acc}


def empty_gradient(x: Tensor) -> Tensor:
    """Uninitialized memory for the gradient of x, in x's type.

    On the CPU it has the type in which x is computed, because Triton's interpreter truncates where a GPU rounds.
    """
    return empty_result(x) if x.device.type == "cpu" else x.new_empty(x.shape)


def empty_tile_gradients(x: Tensor, tiles: int) -> Tensor:
    """Uninitialized memory (B, tiles, ...) for each tile's summand of the gradient of x."""
    dtype = compute_dtype(x) if tiles > 1 or x.device.type == "cpu" else x.dtype  # as in empty_gradient
    return x.new_empty((x.shape[0], tiles, *x.shape[1:]), dtype=dtype)


def sum_tiles(summands: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient (B, ...) from its tiles' summands (B, tiles, ...)."""
    return (summands.squeeze(1) if summands.shape[1] == 1 else summands.sum(1)).to(dtype)
