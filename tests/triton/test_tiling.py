"""The rules that choose a path and block sizes, as properties: a GPU may change the numbers in them."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from mannkern.memories.lrua.ops import scan as operation
from mannkern.triton import least_used, tiling

FLOAT32, FLOAT64 = torch.float32, torch.float64
DTYPES = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=["float32", "float64"])
SIZES = (1, 2, 3, 7, 16, 17, 100, 128, 129, 700, 1024, 1025, 4096, 8193, tiling.MAX_SLOTS)


def test_example() -> None:
    """40 columns are held as 32 + 8; 5 slots of them fit one program, in a block of 8 slots."""
    blocks = tiling.memory_blocks(5, 40, FLOAT32)
    assert (blocks.BN, blocks.W0, blocks.W1) == (8, 32, 8)
    assert (blocks.tiles, blocks.whole) == (1, True)


def is_power_of_two(x: int) -> bool:
    return x > 0 and x & (x - 1) == 0


@pytest.mark.parametrize(("x", "least"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (127, 128), (128, 128), (129, 256)])
def test_power_of_two(x: int, least: int) -> None:
    assert tiling.power_of_two(x) == least


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        (1, (1, 0)),
        (2, (2, 0)),
        (3, (2, 1)),
        (32, (32, 0)),
        (33, (32, 8)),
        (65, (64, 16)),
        (40, (32, 8)),
        (48, (32, 16)),
        (49, (64, 0)),  # 32 + 32 pads as much
        (63, (64, 0)),
        (64, (64, 0)),
        (512, (512, 0)),
    ],
)
def test_columns(W: int, expected: tuple[int, int]) -> None:
    assert tiling.columns(W) == expected


def test_columns_of_every_width() -> None:
    for W in range(1, tiling.MAX_WIDTH + 1):
        W0, W1 = tiling.columns(W)
        assert is_power_of_two(W0)
        assert W1 == 0 or (is_power_of_two(W1) and W0 // 4 <= W1 <= W0), W
        assert W <= W0 + W1 <= tiling.power_of_two(W), W
        assert W1 == 0 or tiling.power_of_two(W) > W0 + W1, W


def elements(BN: int, W: int, dtype: torch.dtype) -> int:
    """The number of float32 values that a program holds; a float64 value counts twice."""
    return BN * (sum(tiling.columns(W)) + tiling.SLOT_VECTORS) * dtype.itemsize // 4


@DTYPES
def test_memory_blocks(dtype: torch.dtype) -> None:
    """Blocks are powers of two, cover N without an empty tile, and hold what the budget allows and no less."""
    for W in range(1, tiling.MAX_WIDTH + 1):
        for N in SIZES:
            blocks = tiling.memory_blocks(N, W, dtype)
            assert tiling.columns(W) == (blocks.W0, blocks.W1)
            assert is_power_of_two(blocks.BN)
            assert (blocks.tiles - 1) * blocks.BN < N <= blocks.tiles * blocks.BN, (N, W)
            fits = elements(tiling.power_of_two(N), W, dtype) <= tiling.WHOLE_ELEMENTS
            assert blocks.whole == fits, (N, W)
            if blocks.whole:
                assert tiling.power_of_two(N) == blocks.BN, (N, W)
            else:
                assert elements(blocks.BN, W, dtype) <= tiling.TILE_ELEMENTS < elements(2 * blocks.BN, W, dtype), (N, W)


def test_budgets() -> None:
    """A tile is smaller than the smallest memory that is not whole, and the widest row of float64 fits a tile."""
    assert tiling.TILE_ELEMENTS <= tiling.WHOLE_ELEMENTS
    assert elements(1, tiling.MAX_WIDTH, FLOAT64) <= tiling.TILE_ELEMENTS


@pytest.mark.parametrize("W", [1, 40, 64, 300, tiling.MAX_WIDTH])
def test_float64_takes_tiles_earlier(W: int) -> None:
    for N in SIZES:
        single, double = (tiling.memory_blocks(N, W, dtype) for dtype in (FLOAT32, FLOAT64))
        assert double.tiles >= single.tiles
        assert single.whole or not double.whole


@pytest.mark.parametrize("per_thread", [tiling.STEP_ELEMENTS_PER_THREAD, tiling.SCAN_ELEMENTS_PER_THREAD])
def test_the_scan_has_the_blocks_of_the_step(per_thread: int) -> None:
    """Only the scan's warps differ, so that a scan in tiles can run the step's kernels."""
    for N in SIZES:
        blocks, step = tiling.memory_blocks(N, 40, FLOAT32, per_thread), tiling.memory_blocks(N, 40, FLOAT32)
        assert blocks[:-1] == step[:-1]


@pytest.mark.parametrize("N", SIZES)
def test_slot_blocks(N: int) -> None:
    blocks = tiling.slot_blocks(N)
    assert is_power_of_two(blocks.BN)
    assert (blocks.tiles - 1) * blocks.BN < N <= blocks.tiles * blocks.BN
    assert blocks.whole == (tiling.power_of_two(N) == blocks.BN)
    assert (blocks.W0, blocks.W1) == (0, 0)


def test_warps() -> None:
    """The number of warps is a power of two and at most 32, CUDA's limit; more elements never get fewer warps."""
    for per_thread in (tiling.STEP_ELEMENTS_PER_THREAD, tiling.SCAN_ELEMENTS_PER_THREAD):
        warps = [tiling._warps(count, per_thread) for count in (1, 10, 100, 1000, 3000, 10**4, 10**5, 10**6)]
        assert all(is_power_of_two(x) and x <= 32 for x in warps)
        assert warps == sorted(warps)
        assert warps[0] == 1
    rows = [tiling.row_warps(2**i) for i in range(17)]
    assert all(is_power_of_two(x) and x <= 32 for x in rows)
    assert rows == sorted(rows)
    assert rows[0] == 1


def test_blocks_do_not_depend_on_the_batch() -> None:
    """No rule takes B, so that a new batch size compiles nothing, and splitting a batch changes no bit."""
    rules = (
        tiling.columns,
        tiling.memory_blocks,
        tiling.slot_blocks,
        tiling.search_path,
        operation.recompute_checkpoint_every,
        tiling.row_warps,
    )
    for rule in rules:
        assert "B" not in inspect.signature(rule).parameters


@pytest.mark.parametrize(
    ("N", "n", "path"),
    [
        (1, 1, "row"),
        (tiling.ROW_SLOTS, 1, "row"),
        (tiling.ROW_SLOTS, tiling.MAX_ROUNDS + 1, "row"),
        (tiling.ROW_SLOTS, tiling.ROW_SLOTS, "row"),
        (tiling.ROW_SLOTS + 1, 1, "tiles"),
        (tiling.ROW_SLOTS + 1, tiling.MAX_ROUNDS, "tiles"),
        (tiling.ROW_SLOTS + 1, tiling.MAX_ROUNDS + 1, "sort"),
        (tiling.MAX_SLOTS, tiling.MAX_SLOTS, "sort"),
    ],
)
def test_search_path(N: int, n: int, path: str) -> None:
    assert tiling.search_path(N, n) == path


def test_search_constants() -> None:
    """Rounds rank a slot for every head; a row is a power of two; bisection knows indices of up to 17 bits."""
    assert least_used.MAX_ROUNDS.value == tiling.MAX_ROUNDS
    assert tiling.MAX_HEADS <= tiling.MAX_ROUNDS
    assert is_power_of_two(tiling.ROW_SLOTS)
    assert tiling.ROW_SLOTS <= 2**17
    assert tiling.MAX_ROUNDS < 127, "marks are int8"


def test_checkpoints_grow_as_the_root_of_T() -> None:
    """The checkpoints of an episode grow so, and the steps that are computed again between two of them."""
    for T in range(1, 3000):
        every = operation.recompute_checkpoint_every(T)
        assert 1 <= every <= T
        assert -(-T // every) - 1 <= math.sqrt(T), T
        assert every - 1 <= 4 * math.sqrt(T), T


def test_scan_programs_of_the_interpreter() -> None:
    """The tests run more than one program, and few enough that a test can have more episodes than programs."""
    assert tiling.scan_programs(torch.device("cpu")) == tiling.INTERPRETED_PROGRAMS
    assert 1 < tiling.INTERPRETED_PROGRAMS < 8


def test_largest_sizes() -> None:
    assert tiling.unsupported(tiling.MAX_SLOTS, tiling.MAX_WIDTH, tiling.MAX_HEADS) == ""
    assert tiling.unsupported(1, 1, 1) == ""


N, W, R = tiling.MAX_SLOTS, tiling.MAX_WIDTH, tiling.MAX_HEADS


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((N + 1, 1, 1), f"N = {N + 1}, and the Triton kernels take up to {N}"),
        ((1, W + 1, 1), f"W = {W + 1}, and the Triton kernels take up to {W}"),
        ((1, 1, R + 1), f"R = {R + 1}, and the Triton kernels take up to {R}"),
        ((N + 1, W + 1, R + 1), f"N = {N + 1}, and the Triton kernels take up to {N}"),
    ],
)
def test_sizes_past_the_largest(sizes: tuple[int, int, int], reason: str) -> None:
    assert tiling.unsupported(*sizes) == reason


def test_sorts() -> None:
    assert not tiling.sorts(tiling.MAX_ROUNDS)
    assert tiling.sorts(tiling.MAX_ROUNDS + 1)
