"""The table of cells: every combination of operation, path, dtype and gradient is in it, on the path it names."""

from __future__ import annotations

import torch

from mannkern.memories.cases import Shape
from mannkern.triton import tiling
from tests.triton.table import BORDERS, CASES, CELLS, DTYPES, MANY, PATHS, path


def test_example() -> None:
    """Five slots fit a program, which marks its two least used slots in two rounds of minimum."""
    assert path(CASES["step"], Shape(1, 5, 3, 1, 2), torch.float32) == "whole, rounds"
    assert path(CASES["write"], Shape(1, 5, 3, 1, 2), torch.float32) == "whole"
    largest = Shape(1, tiling.MAX_SLOTS, tiling.MAX_WIDTH, 1, MANY)  # 128 MiB in float32
    assert path(CASES["step"], largest, torch.float32) == "tiles, sort"


def test_every_combination_has_a_cell() -> None:
    """Gradients need no cell without them, but for a scan, which then saves nothing; the mask has no gradient."""
    required = {
        (operation, where, dtype, operation != "least_used_mask")
        for operation, paths in PATHS.items()
        for where in paths
        for dtype in ("float32", "float64", "half")
    }
    required |= {("lrua_scan", where, "float32", False) for where in ("whole, rounds", "tiles, tile search")}
    assert {(CASES[c.case].operation.name, c.path, DTYPES[c.dtype], c.gradient) for c in CELLS} == required


def test_every_case_is_whole_and_in_tiles() -> None:
    for case in CASES.keys() - {"mask"}:
        assert {c.path.split(",")[0] for c in CELLS if c.case == case} == {"whole", "tiles"}, case


def test_every_cell_takes_its_path() -> None:
    for cell in CELLS:
        assert path(CASES[cell.case], cell.shape, cell.dtype) == cell.path, cell.name
        assert 1 <= cell.shape.n <= cell.shape.N, cell.name
    for name, (cases, shape) in BORDERS.items():
        tiles = {path(CASES[case], shape, torch.float32).startswith("tiles") for case in cases}
        if name != "paper":  # whose memory a program holds on some GPUs
            assert tiles == {"tile" in name or name == "most slots"}, name


def test_names_are_unique() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
