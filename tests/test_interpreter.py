"""The cells that the shared tests run on Triton's interpreter: each operation of LRUA is there on each memory path."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import CASES, CPP, MAIN_CASES, is_interpreted, kernels_of
from tests.interpreter import PATHS, cell, on_shapes
from tests.triton.table import path

LRUA = [name for name in MAIN_CASES if CASES[name].operation.family == "lrua"]
OPERATIONS = {"additive_write", "cosine_read", "usage_update", "lrua_step", "lrua_scan"}


def test_example() -> None:
    """Nine slots of five numbers fit one program, which marks two least used slots in two rounds of minimum."""
    small = cell("step_strength", "whole")
    assert (small.shape.N, small.shape.W, small.shape.n) == (9, 5, 2)
    assert small.path == "whole, rounds"
    assert small.gradient


def test_every_operation_takes_both_paths() -> None:
    cells = [cell(name, where) for name in LRUA for where in PATHS]
    assert {(CASES[c.case].operation.name, c.path.split(",")[0]) for c in cells} == {
        (operation, where) for operation in OPERATIONS for where in PATHS
    }
    assert all(c.gradient for c in cells)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_cell_takes_its_path(dtype: torch.dtype) -> None:
    for name in LRUA:
        for where in PATHS:
            assert path(CASES[name], cell(name, where, dtype).shape, dtype).startswith(where)


@pytest.mark.skipif(not any(map(is_interpreted, kernels_of("lrua"))), reason="Triton's interpreter is off")
@pytest.mark.parametrize("paths", [(), ("whole",), PATHS], ids=len)
def test_interpreted_sets_are_those_of_the_table(paths: tuple[str, ...]) -> None:
    """One for each case and path, marked; compiled kernels run every shape that is passed."""
    shapes = {"one": cell("scan", "whole").shape}
    sets = on_shapes(MAIN_CASES, shapes, paths).args[1]
    marked = [s for s in sets if pytest.mark.interpreter in s.marks]
    assert [s.id for s in marked] == [f"{name}-{where}-triton" for name in LRUA for where in paths]
    assert {s.values[1] for s in sets if s not in marked} == set(shapes.values())


def test_one_instruction_set() -> None:
    """Without the others, each case has the reference, the best compiled kernel and the interpreted paths."""
    shapes = {"one": cell("scan", "whole").shape}
    sets = on_shapes(["scan", "ntm_write"], shapes, ["whole"], reference=True, every_isa=False).args[1]
    best = f"cpp-{CPP[-1][1]}"
    found = [s.id for s in sets if pytest.mark.interpreter not in s.marks]
    assert found == [f"{name}-one-{kernel}" for name in ("scan", "ntm_write") for kernel in ("reference", best)]
