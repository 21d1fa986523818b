"""The rules that choose a path and block sizes: each side of each rule."""

from __future__ import annotations

import inspect

import pytest
import torch

from mannkern.triton import block_math, tiling

FLOAT32, FLOAT64 = torch.float32, torch.float64


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


@pytest.mark.parametrize(
    ("N", "W", "dtype", "BN", "tiles"),
    [
        (128, 40, FLOAT32, 128, 1),  # the paper's
        (129, 40, FLOAT32, 64, 3),
        (128, 40, FLOAT64, 32, 4),  # a number of float64 counts twice
        (64, 40, FLOAT64, 64, 1),
        (128, 64, FLOAT32, 128, 1),  # 128 (64 + 8) is all there is room for
        (128, 65, FLOAT32, 32, 4),
        (16, 512, FLOAT32, 16, 1),
        (17, 512, FLOAT32, 8, 3),
        (16, 512, FLOAT64, 4, 4),
        (1024, 1, FLOAT32, 1024, 1),  # and so is 1024 (1 + 8)
        (1025, 1, FLOAT32, 512, 3),
        (700, 30, FLOAT32, 64, 11),
        (1, 1, FLOAT32, 1, 1),
        (3, 5, FLOAT32, 4, 1),
        (65536, 512, FLOAT32, 8, 8192),
    ],
)
def test_memory_blocks(N: int, W: int, dtype: torch.dtype, BN: int, tiles: int) -> None:
    found = tiling.memory_blocks(N, W, dtype)
    assert (found.BN, found.tiles, found.whole) == (BN, tiles, tiles == 1)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_memory_blocks_of_every_width(dtype: torch.dtype) -> None:
    for W in range(1, tiling.MAX_WIDTH + 1):
        for N in (1, 2, 7, 16, 17, 100, 128, 129, 700, 1024, 1025, 4096, 65536):
            found = tiling.memory_blocks(N, W, dtype)
            assert tiling.columns(W) == (found.W0, found.W1)
            assert is_power_of_two(found.BN)
            assert is_power_of_two(found.warps)
            assert found.warps <= 8
            assert (found.tiles - 1) * found.BN < N <= found.tiles * found.BN, "no tile is empty and none is missing"
            held = found.BN * (found.W0 + found.W1 + tiling.SLOT_VECTORS) * dtype.itemsize // 4
            assert held <= (tiling.WHOLE_ELEMENTS if found.whole else tiling.TILE_ELEMENTS), (N, W)


@pytest.mark.parametrize("N", [1, 1000, 1024, 1025, 65536])
def test_slot_blocks(N: int) -> None:
    found = tiling.slot_blocks(N)
    assert (found.tiles - 1) * found.BN < N <= found.tiles * found.BN
    assert found.BN <= 1024
    assert found.whole == (N <= 1024)


@pytest.mark.parametrize(("elements", "warps"), [(1, 1), (768, 1), (769, 2), (1536, 2), (1537, 4), (10**6, 8)])
def test_warps_of_a_block(elements: int, warps: int) -> None:
    assert tiling._warps(elements, 24) == warps


def test_blocks_do_not_depend_on_the_batch() -> None:
    """So a new batch size compiles nothing, and splitting a batch changes no bit."""
    rules = (
        tiling.columns,
        tiling.memory_blocks,
        tiling.slot_blocks,
        tiling.search_path,
        tiling.checkpoint_every,
        tiling.row_warps,
    )
    for rule in rules:
        assert "B" not in inspect.signature(rule).parameters


@pytest.mark.parametrize(
    ("N", "n", "path"),
    [
        (1, 1, "row"),
        (8192, 1, "row"),
        (8192, 17, "row"),
        (8192, 8192, "row"),
        (8193, 1, "tiles"),
        (8193, 16, "tiles"),
        (8193, 17, "sort"),
        (65536, 65536, "sort"),
    ],
)
def test_selection(N: int, n: int, path: str) -> None:
    assert tiling.search_path(N, n) == path


def test_rounds_are_those_of_the_kernels() -> None:
    assert block_math.MAX_ROUNDS.value == tiling.MAX_ROUNDS


@pytest.mark.parametrize(
    ("T", "span"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (9, 6), (50, 15), (100, 20), (1000, 64)]
)
def test_scan_span(T: int, span: int) -> None:
    assert tiling.checkpoint_every(T) == span


def test_scan_memory_grows_as_the_root_of_T() -> None:
    for T in range(1, 3000):
        span = tiling.checkpoint_every(T)
        assert 1 <= span <= T
        copies = -(-T // span) - 1
        assert copies**2 <= T / 4
        assert (span - 1) ** 2 < 4 * T


def test_scan_programs_of_the_interpreter() -> None:
    assert tiling.scan_programs(torch.device("cpu")) == tiling.INTERPRETED_PROGRAMS


@pytest.mark.parametrize(("BN", "warps"), [(1, 1), (256, 1), (512, 2), (4096, 16), (8192, 16)])
def test_row_warps(BN: int, warps: int) -> None:
    assert tiling.row_warps(BN) == warps


def test_largest_sizes() -> None:
    assert tiling.unsupported(65536, 512, 16) == ""
    assert tiling.unsupported(1, 1, 1) == ""


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((65537, 1, 1), "N = 65537, and the Triton kernels take up to 65536"),
        ((1, 513, 1), "W = 513, and the Triton kernels take up to 512"),
        ((1, 1, 17), "R = 17, and the Triton kernels take up to 16"),
        ((65537, 513, 17), "N = 65537, and the Triton kernels take up to 65536"),
    ],
)
def test_sizes_past_the_largest(sizes: tuple[int, int, int], reason: str) -> None:
    assert tiling.unsupported(*sizes) == reason


def test_sorts() -> None:
    assert not tiling.sorts(tiling.MAX_ROUNDS)
    assert tiling.sorts(tiling.MAX_ROUNDS + 1)
