"""What the shared tests run on Triton's interpreter: cells of a table, since it is too slow for all their sizes.

The accuracy rule is checked for every (operation, path, dtype, gradient) by ``tests/triton/table.py``. The other
properties that the tests in tests/memories share run on these cells of the same form, all with gradients:

    property of an operation's kernels                    path            dtype
    a loss of one output; episodes of a batch apart;      whole, tiles    float32
    nothing left behind by an earlier call
    extreme values                                        whole, tiles    float32; whole also float64
    gradients against differences, one case each          whole           float64
    views, expanded views, some gradients, half           whole           float32, half
    precision, repeated runs, threads of Python

What stands in the last line is done by the launchers, before or after a kernel, the same for every path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch

from mannkern.triton import tiling
from tests.helpers import CPP, EVERY_CASE, PLAIN, Shape, is_interpreted, kernels_of, parameter
from tests.triton.table import Cell, path, small, tiled, tiled_row

PATHS = ("whole", "tiles")
MOST_ROUNDS = tiling.MAX_ROUNDS  # the most least used slots that are searched by rounds


_AVAILABLE = any(map(is_interpreted, kernels_of("lrua")))


def interpreted(test: Any) -> Any:
    """Mark a test that runs Triton's kernels itself, and skip it where there is no interpreter, as beside a GPU."""
    skip = pytest.mark.skipif(not _AVAILABLE, reason="Triton's interpreter is off")
    return pytest.mark.interpreter(skip(test))


def cell(name: str, where: str, dtype: torch.dtype = torch.float32) -> Cell:
    """The cell of a case on the memory path ``where``."""
    case = EVERY_CASE[name]
    sizes = {"whole": small, "tiles": tiled_row if case.operation.name == "usage_update" else tiled}[where]
    shape = sizes(dtype)
    return Cell(f"{name}: {where}", name, shape, dtype, case.operation.differentiable, path(case, shape, dtype))


def on_shapes(
    cases: Iterable[str],
    shapes: Mapping[str, Shape],
    paths: Iterable[str] = PATHS,
    *,
    reference: bool = False,
    every_isa: bool = True,
) -> pytest.MarkDecorator:
    """Run the test with ``case``, ``shape`` and ``kernel``: compiled kernels on every shape, interpreted ones on cells.

    The interpreter runs one cell for each of ``paths``. With ``reference`` the last argument is ``backend``, and the
    reference is one of its values. Without ``every_isa`` compiled kernels run on the best instruction set alone: for
    tests of what calls an operation, above the kernels, which other tests compare on each instruction set.
    """
    sets, paths = [], tuple(paths)
    for name in cases:
        for kernel in ([PLAIN] if reference else []) + kernels_of(EVERY_CASE[name].operation.family):
            if not every_isa and kernel in CPP[:-1]:
                continue
            sizes = {where: cell(name, where).shape for where in paths} if is_interpreted(kernel) else shapes
            sets += [parameter(name, shape, kernel=kernel, label=f"{name}-{label}") for label, shape in sizes.items()]
    last = "backend" if reference else "kernel"
    return pytest.mark.parametrize(("case", "shape", last), sets, indirect=[last])
