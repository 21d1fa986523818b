"""How the kernels of an episode are launched: its sizes, and grids, blocks and constants that follow from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.triton.launch.common import Maybe, memory_constants, num_ranked_slots, triton_dtype
from mannkern.triton.tiling import SCAN_ELEMENTS_PER_THREAD, memory_blocks, product_blocks

MOST_BLOCKS = 65_535  # of episodes, in the second dimension of a grid
# Compute capabilities, from (9, 0) on, of GPUs on which early starts were right and saved time; none has run them yet.
# Loads before the wait are of what earlier kernels wrote, and PTX does not say that the wait is not needed to see it.
EARLY_GPUS: frozenset[tuple[int, int]] = frozenset()
PRECISION = "ieee"  # of float32 products; "tf32x3" takes tensor cores, three passes a product


class Sizes(NamedTuple):
    """Sizes of an episode, in the letters of :mod:`mannkern.triton.controller`."""

    T: int
    B: int
    D: int
    O: int
    I: int
    G: int
    N: int
    W: int
    R: int
    lstm: bool

    @property
    def strengths(self) -> bool:
        return 2 * self.R * (self.W + 1) == self.I

    @property
    def first(self) -> int:
        """The first column of [h, r] that the controller sees: a tanh layer does not see h."""
        return 0 if self.lstm else self.D


def sizes(T: int, interface_weight: Tensor, recurrent_weight: Tensor, cell: Maybe, memory: Tensor, O: int) -> Sizes:
    """The sizes of an episode of T steps, from the shapes of its arguments. Raises ValueError for too many episodes."""
    (I, D), (B, N, W) = interface_weight.shape, memory.shape
    G = recurrent_weight.shape[0]
    of_grid = MOST_BLOCKS * product_blocks(B, 1, memory.dtype).BB
    most = min(of_grid, (2**31 - 1) // max(G, O, I))  # the kernels' offsets within a step have 32 bits
    if most < B:
        raise ValueError(f"input: got {B:,} episodes, need at most {most:,} in a call of the kernels of an episode")
    weights = max(G * O, I * D)  # theirs within a matrix have 32 bits too
    if weights >= 2**31:
        raise ValueError(f"hidden_size: got {D:,}, a matrix of {weights:,} weights, need fewer than 2^31 in one")
    return Sizes(T, B, D, O, I, G, N, W, (O - D) // W, cell is not None)


class Product(NamedTuple):
    """How a kernel with a matrix product is launched."""

    grid: tuple[int, int]
    warps: int
    constants: dict[str, Any]


def product(columns: int, K: int, memory: Tensor, tf32_columns: int = 32) -> Product:
    """A product of K terms with ``columns`` columns. It takes TF32 only if the user allows it for products.

    tf32_columns: the most that a block computes in TF32, for a kernel that spills with more
    """
    B, dtype = len(memory), memory.dtype
    blocks = product_blocks(B, K, dtype)
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else PRECISION
    precision = precision if dtype == torch.float32 else "ieee"
    if precision == "tf32":
        blocks = blocks._replace(BO=min(blocks.BO, tf32_columns))
    sizes = {"BB": blocks.BB, "BO": blocks.BO, "S": blocks.S, "BK": blocks.BK}
    grid = (-(-columns // blocks.BO), -(-B // blocks.BB))
    constants = {"ACC": triton_dtype(dtype), "PRECISION": precision, "EARLY": starts_early(memory.device)}
    return Product(grid, blocks.warps, sizes | constants)


def starts_early(device: torch.device) -> bool:
    """Whether a kernel may begin before the one before it ends."""
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    return on_nvidia and torch.cuda.get_device_capability(device) in EARLY_GPUS


def step_constants(memory: Tensor, s: Sizes, num_least_used: int, per_head: bool) -> dict[str, Any]:
    """The constants that the kernels of the memory's steps are compiled for."""
    constants = memory_constants(memory, s.R, memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD))
    n = num_ranked_slots(num_least_used, per_head, s.R)
    return constants | {"STRENGTHS": s.strengths, "n": n, "PER_HEAD": per_head, "EARLY": starts_early(memory.device)}
