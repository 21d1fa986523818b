"""The compiled GPU kernels, run without a GPU: each kernel and each path once.

``make gpu-proof`` runs the whole table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor

import pytest

from mannkern.memories.lrua.verification import CASES as LRUA_CASES
from mannkern.memories.ntm.verification import CASES as NTM_CASES
from tests.ptx.coverage import missing
from tests.ptx.table import SMALL, WHOLE, Row
from tests.ptx.worker import pool, run
from tests.triton import table as interpreter

OTHER_GPUS = ("accuracy: step, one column, float32", "accuracy: step, odd, float32, CUDA")
ELSEWHERE = [row for row in WHOLE if row.name in OTHER_GPUS]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Executor]:
    """A process that runs rows one after the other."""
    with pool(1) as executor:
        yield executor


@pytest.mark.slow
@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_compiled_kernels(row: Row, emulator: Executor) -> None:
    """Results are right, and there is no race, no access out of bounds and no undefined value."""
    if missing(row):
        pytest.skip(missing(row))
    result = emulator.submit(run, row).result()
    assert not result.wrong, "\n".join(result.wrong)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [80, 100, 120])
@pytest.mark.parametrize("row", ELSEWHERE, ids=lambda row: row.name)
def test_kernels_for_other_gpus(row: Row, gpu: int, emulator: Executor) -> None:
    """Compilers use instructions of a GPU's own, such as sm_100's maximum over a warp where columns are few."""
    if missing(row):
        pytest.skip(missing(row))
    result = emulator.submit(run, row, gpu).result()
    assert not result.wrong, "\n".join(result.wrong)


def test_every_case_and_path_is_in_the_small_table() -> None:
    """The paths are those of tests/triton/table.py; the NTM's rows are worked on by a warp or by a block."""
    paths, sides = defaultdict(set), defaultdict(set)
    for row in SMALL:
        if row.case in NTM_CASES:
            sides[row.case].add(row.shape.N > 256)
        elif not row.is_cuda and row.check in ("accuracy", "mask"):  # of operations alone
            case = LRUA_CASES[row.case]
            paths[case.operation.name].add(interpreter.path(case, row.shape, row.dtype))
    assert paths == {name: set(every) for name, every in interpreter.PATHS.items()}
    assert dict(sides) == {case: {False, True} for case in NTM_CASES}
    assert {row.case for row in SMALL} >= {row.case for row in WHOLE} - {"usage_decay_0"}
    for name in ("step", "step_strength", "step_per_head"):
        assert {row.label for row in SMALL if row.case == name and not row.is_cuda} >= {"standard", "tiles"}
        assert any(row.is_cuda and row.check == "accuracy" for row in SMALL if row.case == name)


def test_names_are_unique() -> None:
    for rows in (SMALL, WHOLE):
        assert len({row.name for row in rows}) == len(rows)
    assert len(ELSEWHERE) == len(OTHER_GPUS)
