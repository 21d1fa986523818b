"""The table of what is tested of the Triton kernels: one named cell for each (operation, path, dtype, gradient).

Triton's interpreter is slow, so its tests run the sizes of this table and no product of all sizes. The sizes follow
from the constants of :mod:`mannkern.triton.tiling`: a cell keeps its path when a GPU changes a tuning number.
``tests/triton/test_table.py`` asserts that every combination has a cell and that every cell takes its path.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import torch

from mannkern.memories.cases import Case, Shape
from mannkern.memories.lrua.verification import CASES
from mannkern.triton import tiling

FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
DTYPES = {FLOAT32: "float32", FLOAT64: "float64", FLOAT16: "half", BFLOAT16: "half"}


MEMORY_PATHS = ("whole", "tiles")  # one program for the memory of an episode, or one for each tile of it
STEP_PATHS = ("whole, rounds", "whole, bisection", "tiles, tile search", "tiles, sort")  # and how slots are searched
PATHS = {
    "least_used_mask": ("row, rounds", "row, bisection", "tile search", "sort"),
    "additive_write": MEMORY_PATHS,
    "cosine_read": MEMORY_PATHS,
    "usage_update": MEMORY_PATHS,
    "lrua_step": STEP_PATHS,
    "lrua_scan": STEP_PATHS,
}


class Cell(NamedTuple):
    """One evaluation: a case of ``mannkern.memories.cases``, its sizes and type, with or without gradients."""

    name: str
    case: str
    shape: Shape
    dtype: torch.dtype
    gradient: bool
    path: str


def path(case: Case, shape: Shape, dtype: torch.dtype) -> str:
    """The path that the launchers choose, one of PATHS[case.operation.name]."""
    per_head = case.options.get("least_used") == "per_head"
    by_rounds = not tiling.sorts(min(shape.n, shape.R) if per_head else shape.n)
    if case.operation.name == "least_used_mask":
        row = "row, rounds" if by_rounds else "row, bisection"
        return {"row": row, "tiles": "tile search", "sort": "sort"}[tiling.search_path(shape.N, shape.n)]
    if case.operation.name == "usage_update":
        return "whole" if tiling.slot_blocks(shape.N).whole else "tiles"
    whole = tiling.memory_blocks(shape.N, shape.W, FLOAT64 if dtype == FLOAT64 else FLOAT32).whole
    if case.operation.name in ("additive_write", "cosine_read"):
        return "whole" if whole else "tiles"
    if whole:
        return "whole, rounds" if by_rounds else "whole, bisection"
    return "tiles, tile search" if by_rounds else "tiles, sort"


def first_tiled(W: int, dtype: torch.dtype = FLOAT32) -> int:
    """The smallest N whose memory (N, W) takes tiles."""
    return next(N for N in count(1) if not tiling.memory_blocks(N, W, dtype).whole)


def first_tiled_row() -> int:
    """The smallest N whose usage row takes tiles."""
    return next(N for N in count(1) if not tiling.slot_blocks(N).whole)


MANY = tiling.MAX_ROUNDS + 1  # the fewest least used slots that are not searched by rounds
LONG = tiling.ROW_SLOTS + 1  # the shortest usage row that one program does not search


def small(dtype: torch.dtype) -> Shape:
    return Shape(2, 9, 5, 2, 2, T=2)


def tiled(dtype: torch.dtype) -> Shape:
    return Shape(1, first_tiled(300, FLOAT64 if dtype == FLOAT64 else FLOAT32), 300, 2, 2, T=2)


def tiled_row(dtype: torch.dtype) -> Shape:
    return Shape(2, first_tiled_row(), 1, 2, 2)


def many(dtype: torch.dtype) -> Shape:
    return Shape(1, MANY + 3, 6, 2, MANY, T=2)


def tiled_many(dtype: torch.dtype) -> Shape:
    return Shape(1, max(tiled(dtype).N, MANY + 3), 300, 1, MANY, T=2)


def long_row(dtype: torch.dtype) -> Shape:
    return Shape(1, LONG, 1, 1, 3)


def long_row_many(dtype: torch.dtype) -> Shape:
    return Shape(1, LONG, 1, 1, MANY)


Sizes = Callable[[torch.dtype], Shape]
_OF_MEMORY: dict[str, Sizes] = {"whole": small, "tiles": tiled}
_OF_STEP = dict(zip(STEP_PATHS, (small, many, tiled, tiled_many)))

# Every path of every operation, in each type, with gradients where the operation has any.
EACH_TYPE: dict[str, dict[str, Sizes]] = {
    "mask": dict(zip(PATHS["least_used_mask"], (small, many, long_row, long_row_many))),
    "write_reset": _OF_MEMORY,
    "read_strength": _OF_MEMORY,
    "usage": {"whole": small, "tiles": tiled_row},
    "step_strength": _OF_STEP,
    "scan": _OF_STEP,
}

# The other options of each operation, in float32.
OPTIONS: dict[str, dict[str, Sizes]] = {
    "write": _OF_MEMORY,
    "read": _OF_MEMORY,
    "usage_decay_0": {"whole": small, "tiles": tiled_row},
    "step": {"whole, rounds": small, "tiles, tile search": tiled},
    "step_per_head": {"whole, rounds": small, "tiles, tile search": tiled},
    "scan_strength_per_head": {"whole, rounds": small, "tiles, tile search": tiled},
}

# A scan under no_grad: it saves nothing, which is another kernel.
NO_GRADIENT: dict[str, dict[str, Sizes]] = {"scan": {"whole, rounds": small, "tiles, tile search": tiled}}

# Sizes at the borders, in float32. The last tile of the smallest tiled memory holds one slot.
_MEMORY_CASES = ("write_reset", "read_strength", "step_strength")
_STEP_CASES = (*_MEMORY_CASES, "scan_strength_per_head")
BORDERS: dict[str, tuple[tuple[str, ...], Shape]] = {
    "one slot": (_STEP_CASES, Shape(2, 1, 5, 3, 1, T=2)),
    "one column": (_STEP_CASES, Shape(2, 9, 1, 2, 2, T=2)),
    "one column, tiles": (("step_strength", "read_strength"), Shape(1, first_tiled(1), 1, 2, 2)),
    "one of each": (_STEP_CASES, Shape(1, 1, 1, 1, 1, T=1)),
    "more heads than slots": (_STEP_CASES, Shape(2, 3, 4, 5, 3, T=2)),
    "no episodes": (("usage", *_STEP_CASES), Shape(0, 8, 4, 2, 2)),
    "columns a power of two": (_STEP_CASES, Shape(1, 8, 8, 1, 1, T=2)),
    "paper": (("step_strength",), Shape(1, 128, 40, 4, 4)),
    "largest whole": (_MEMORY_CASES, Shape(1, first_tiled(30) - 1, 30, 2, 2)),
    "smallest tiled": (_MEMORY_CASES, Shape(2, first_tiled(30), 30, 1, 1)),
    "many tiles": (("step_strength",), Shape(1, 5 * first_tiled(30), 30, 1, 2)),
    "widest": (_MEMORY_CASES, Shape(1, first_tiled(tiling.MAX_WIDTH) - 1, tiling.MAX_WIDTH, 2, 2)),
    "widest, tiles": (_MEMORY_CASES, Shape(1, first_tiled(tiling.MAX_WIDTH), tiling.MAX_WIDTH, 2, 2)),
    "most heads": (("step_per_head", "read"), Shape(1, 20, 5, tiling.MAX_HEADS, tiling.MAX_HEADS)),
    "most heads, tiles": (
        ("step_per_head",),
        Shape(1, max(first_tiled(300), tiling.MAX_HEADS), 300, tiling.MAX_HEADS, tiling.MAX_HEADS),
    ),
    "most slots": (("step_strength",), Shape(1, tiling.MAX_SLOTS, 1, 1, 3)),
    "searched in several tiles": (("step_per_head",), Shape(1, LONG, 1, 2, tiling.MAX_ROUNDS)),
    "every slot least used": (("step",), Shape(1, 40, 6, 1, 40)),
    "every slot least used, tiles": (("step",), Shape(1, first_tiled(200), 200, 1, first_tiled(200))),
    "more slots than heads rank": (("step_per_head", "scan_strength_per_head"), Shape(2, 40, 5, 3, MANY, T=2)),
    "more slots than heads rank, tiles": (
        ("step_per_head", "scan_strength_per_head"),
        Shape(1, max(first_tiled(200), MANY), 200, 3, MANY, T=2),
    ),
    "heads share slots": (("step_per_head",), Shape(1, 20, 5, 5, 3)),
    "heads share slots, tiles": (("step_per_head",), Shape(1, first_tiled(300), 300, 5, 3)),
}


def _half(where: str) -> torch.dtype:
    """The half type that is tested on a path: the same code loads both types, so that one of them suffices."""
    return BFLOAT16 if "til" in where or where == "sort" else FLOAT16


def _cells() -> list[Cell]:
    cells = []
    for case, paths in EACH_TYPE.items():
        for where, sizes in paths.items():
            for dtype in (FLOAT32, FLOAT64, _half(where)):
                name = f"{case}: {where}, {DTYPES[dtype]}"
                cells.append(Cell(name, case, sizes(dtype), dtype, case != "mask", where))
    for case, paths in OPTIONS.items():
        cells += [Cell(f"{case}: {where}", case, size(FLOAT32), FLOAT32, True, where) for where, size in paths.items()]
    for case, paths in NO_GRADIENT.items():
        for where, sizes in paths.items():
            cells.append(Cell(f"{case}: {where}, no gradient", case, sizes(FLOAT32), FLOAT32, False, where))
    for name, (cases, shape) in BORDERS.items():
        for case in cases:
            where = path(CASES[case], shape, FLOAT32)
            cells.append(Cell(f"{case}: {name}", case, shape, FLOAT32, True, where))
    return cells


CELLS = _cells()
