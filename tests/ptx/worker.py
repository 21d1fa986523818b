"""Processes that run rows of the table, because Triton's interpreter is on in that of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple
from unittest import mock

from tests.ptx.table import Row

WAYS: dict[str, dict[str, Any]] = {
    "as compiled": {},
    "with approximate functions as wrong as the manual allows": {"perturb": 1},
    "with products fused into sums where NVIDIA's assembler may do it": {"fused": True},
}


class Result(NamedTuple):
    """What a row came to: a sentence for each thing that is wrong, the figures, and the kernels that were launched."""

    wrong: list[str]
    figures: str
    kernels: set[str]


def run(row: Row, arch: int = 90, perturb: int = 0, fused: bool = False) -> Result:
    """Run a row for a GPU; see :class:`tests.ptx.session.Session` for the arguments."""
    from tests.ptx import checks  # here, because from then on Triton compiles for the emulator

    return Result(*checks.run(row, arch, perturb, fused))


def run_in_every_way(row: Row, arch: int) -> dict[str, Result]:
    """The results by name of the way. What cannot be run, such as an instruction that is not known, is wrong."""
    results = {}
    for way, settings in WAYS.items():
        try:
            results[way] = run(row, arch, **settings)
        except Exception as error:
            results[way] = Result([f"{type(error).__name__}: {error}"], "", set())
    return results


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes in which Triton's interpreter is off."""
    with mock.patch.dict(os.environ):
        os.environ.pop("TRITON_INTERPRET", None)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
            yield executor
