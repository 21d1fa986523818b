"""Tiling: the path that a kernel takes for given sizes, and the block sizes of its programs.

Nothing here depends on B, so that a new batch size compiles nothing and splitting a batch changes no bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

WHOLE_ELEMENTS = 9216  # float32 values of a whole memory that one program holds; with more, the backward pass spills
TILE_ELEMENTS = 4608  # float32 values of one tile of a larger memory
SLOT_VECTORS = 8  # values that a slot needs beside its row, about: weights, norm, usage, gradients
ROW_SLOTS = 8192  # slots of a usage row that one program searches
STEP_ELEMENTS_PER_THREAD = 48  # about; fewer threads repeat fewer instructions
SCAN_ELEMENTS_PER_THREAD = 24  # the scan, and float64, would spill with more
PRELOADED_CHUNKS = 4  # of a sum: if it has no more, all are loaded before the first is summed
FEW_EPISODES = 64  # up to which the products of an episode's step take small blocks
PROGRAMS_PER_CORE = 2  # the registers of a core hold one program of the standard sizes, and more of smaller ones
INTERPRETED_PROGRAMS = 2  # programs of a scan's backward pass in Triton's interpreter
MAX_ROUNDS = 16  # up to this n, the least used slots are searched by n rounds of minimum
MAX_HEADS, MAX_SLOTS, MAX_WIDTH = 16, 65536, 512  # the sizes that are tested; per-head marks need R <= MAX_ROUNDS


class Blocks(NamedTuple):
    """Block sizes: BN slots and W0 + W1 columns per program, tiles per episode, warps per program."""

    BN: int
    W0: int
    W1: int
    tiles: int
    warps: int

    @property
    def whole(self) -> bool:
        """Whether one program holds the whole memory of an episode."""
        return self.tiles == 1


def power_of_two(x: int) -> int:
    """The smallest power of two that is at least x."""
    return 1 << (x - 1).bit_length()


def columns(W: int) -> tuple[int, int]:
    """The powers of two W0 and W1 that W columns are split into; W1 is 0 where a split pads no less.

    W1 is at least a quarter of W0, so that the lanes that load four columns each of the first part have one each of
    the second.
    """
    padded = power_of_two(W)
    if padded == W:
        return W, 0
    W0 = padded // 2
    W1 = max(power_of_two(W - W0), W0 // 4)
    return (padded, 0) if padded == W0 + W1 else (W0, W1)


def memory_blocks(N: int, W: int, dtype: torch.dtype, per_thread: int = STEP_ELEMENTS_PER_THREAD) -> Blocks:
    """The blocks of a memory (N, W) that is computed in ``dtype``: one if it fits a program, tiles of it otherwise."""
    W0, W1 = columns(W)
    row = (W0 + W1 + SLOT_VECTORS) * dtype.itemsize // 4
    BN = power_of_two(N)
    if BN * row > WHOLE_ELEMENTS:
        BN = power_of_two(TILE_ELEMENTS // row + 1) // 2
    per_thread = per_thread if dtype == torch.float32 else SCAN_ELEMENTS_PER_THREAD
    return Blocks(BN, W0, W1, -(-N // BN), _warps(BN * row, per_thread))


class ProductBlocks(NamedTuple):
    """Block sizes of a product in a step of an episode: BB episodes, BO columns, sums in chunks of S BK terms."""

    BB: int
    BO: int
    S: int
    BK: int
    warps: int


def product_blocks(B: int, K: int, dtype: torch.dtype) -> ProductBlocks:
    """The blocks of a product of K terms for B episodes.

    For few episodes there are many small programs, in which the warps share each sum; those with a loop over chunks
    have twice the columns, because they spill on AMD otherwise. For many episodes each program computes a larger block,
    so that the weights are read less often.
    """
    if dtype == torch.float64:
        return ProductBlocks(16, 16, 1, 16, 4)
    if B <= FEW_EPISODES:
        return ProductBlocks(16, 8 if K <= PRELOADED_CHUNKS * 128 else 16, 8, 16, 8)
    return ProductBlocks(32, 32, 4, 16, 8)


def slot_blocks(N: int) -> Blocks:
    """The blocks of a kernel over slots that reads no memory, so that they have no columns."""
    BN = min(power_of_two(N), 1024)
    return Blocks(BN, 0, 0, -(-N // BN), _warps(4 * BN, SCAN_ELEMENTS_PER_THREAD))


def search_path(N: int, n: int) -> str:
    """How the n least used of N slots are searched: "row" by one program, "tiles" in two stages, "sort" by PyTorch."""
    if N <= ROW_SLOTS:
        return "row"
    return "sort" if sorts(n) else "tiles"


def sorts(n: int) -> bool:
    """Whether a search that needs several programs sorts instead, because n is too large for rounds of minimum."""
    return n > MAX_ROUNDS


def scan_programs(device: torch.device) -> int:
    """The programs of a scan's backward pass: as many as the device runs at once, because each needs scratch memory."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return INTERPRETED_PROGRAMS
    return PROGRAMS_PER_CORE * torch.cuda.get_device_properties(device).multi_processor_count


def row_warps(BN: int) -> int:
    """The warps of a program that searches BN slots."""
    return min(max(BN // 256, 1), 16)


def unsupported(N: int, W: int, R: int) -> str:
    """Why the kernels do not take these sizes; empty if they do."""
    for letter, size, largest in (("N", N, MAX_SLOTS), ("W", W, MAX_WIDTH), ("R", R, MAX_HEADS)):
        if size > largest:
            return f"{letter} = {size}, and the Triton kernels take up to {largest}"
    return ""


def _warps(elements: int, per_thread: int) -> int:
    return min(power_of_two(-(-elements // (32 * per_thread))), 8)
