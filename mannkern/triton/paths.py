"""Which path a size takes, and the shapes of its blocks. None of it depends on B, so a new batch size compiles nothing
and splitting a batch changes no bit."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

WHOLE_ELEMENTS = 9216  # float32 elements that one program holds of a memory in registers; more, and the backward spills
TILE_ELEMENTS = 4608  # of a tile of a larger memory
SLOT_VECTORS = 8  # numbers a slot needs beside its row, about: weights, norm, usage, gradients
ROW_SLOTS = 8192  # slots of a usage row that one program searches
STEP_ELEMENTS_PER_THREAD = 48  # of a block, about: the fewer threads, the fewer instructions of each that repeat
SCAN_ELEMENTS_PER_THREAD = 24  # where they would spill
PROGRAMS_PER_CORE = 2  # registers hold one of the standard sizes at a time, and more of smaller ones
INTERPRETED_PROGRAMS = 2
MOST_ROUNDS = 16  # least used slots up to which they are found one by one
MOST_HEADS, MOST_SLOTS, MOST_WIDTH = 16, 65536, 512  # what is tested; R also bounds the marks of least_used="per_head"


class Blocks(NamedTuple):
    """BN slots by columns W0 + W1 to a program, tiles of them to an episode, warps to a program."""

    BN: int
    W0: int
    W1: int
    tiles: int
    warps: int

    @property
    def whole(self) -> bool:
        """Whether a program holds a whole memory."""
        return self.tiles == 1


def power_of_two(x: int) -> int:
    """The least power of two that is at least x."""
    return 1 << (x - 1).bit_length()


def columns(W: int) -> tuple[int, int]:
    """Powers of two that W columns are held in: two where that pads less than one, W1 = 0 otherwise. W1 is at least a
    quarter of W0, so that the lanes that load four columns each of the first part have one each of the second."""
    whole = power_of_two(W)
    most = whole if whole == W else whole // 2
    rest = max(power_of_two(W - most), most // 4) if most < W else 0
    return (most, rest) if most + rest < whole else (whole, 0)


def memory_blocks(N: int, W: int, dtype: torch.dtype, per_thread: int = STEP_ELEMENTS_PER_THREAD) -> Blocks:
    """Blocks of a memory (N, W) held in ``dtype``: whole where it fits a program, tiles of it otherwise."""
    W0, W1 = columns(W)
    row = (W0 + W1 + SLOT_VECTORS) * dtype.itemsize // 4
    BN = power_of_two(N)
    if BN * row > WHOLE_ELEMENTS:
        BN = power_of_two(TILE_ELEMENTS // row + 1) // 2
    per_thread = per_thread if dtype == torch.float32 else SCAN_ELEMENTS_PER_THREAD
    return Blocks(BN, W0, W1, -(-N // BN), _warps(BN * row, per_thread))


def slot_blocks(N: int) -> Blocks:
    """Blocks of rows of slots without a width."""
    BN = min(power_of_two(N), 1024)
    return Blocks(BN, 0, 0, -(-N // BN), _warps(4 * BN, SCAN_ELEMENTS_PER_THREAD))


def selection(N: int, n: int) -> str:
    """How the n least used of N are found alone: "row" by one program, "tiles" in two stages, or "sort" by PyTorch."""
    if N <= ROW_SLOTS:
        return "row"
    return "sort" if sorts(n) else "tiles"


def sorts(n: int) -> bool:
    """Whether a row in tiles is sorted, since n is more than are found one by one."""
    return n > MOST_ROUNDS


def wide(x: torch.Tensor) -> torch.dtype:
    """The type in which x is computed."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def scan_span(T: int) -> int:
    """Steps between two copies of the memory that a scan keeps, T / span of each episode, for its backward pass. That
    computes span steps again in scratch memory of its programs, which are fewer than the episodes of a large batch: so
    twice the square root."""
    return min(math.ceil(2 * math.sqrt(T)), T)


def scan_programs(device: torch.device) -> int:
    """Programs of a scan's backward pass, each with scratch memory of its own: as many as the device holds at once."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return INTERPRETED_PROGRAMS
    return PROGRAMS_PER_CORE * torch.cuda.get_device_properties(device).multi_processor_count


def row_warps(BN: int) -> int:
    """Warps of a program that searches BN slots."""
    return min(max(BN // 256, 1), 16)


def unsupported(N: int, W: int, R: int) -> str:
    """Why the kernels do not take these sizes; empty where they do."""
    for letter, size, most in (("N", N, MOST_SLOTS), ("W", W, MOST_WIDTH), ("R", R, MOST_HEADS)):
        if size > most:
            return f"{letter} = {size}, and the Triton kernels take up to {most}"
    return ""


def _warps(elements: int, per_thread: int) -> int:
    return min(power_of_two(-(-elements // (32 * per_thread))), 8)
