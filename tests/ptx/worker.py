"""Processes that run rows of the table, because Triton's interpreter is on in that of the tests."""

from __future__ import annotations

import os
import time
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


def run_in_every_way(row: Row, arch: int) -> tuple[dict[str, Result], float]:
    """The results by name of the way, and the seconds that they took.

    What cannot be run, such as an instruction that is not known, is wrong.
    """
    results, began = {}, time.perf_counter()
    for way, settings in WAYS.items():
        try:
            results[way] = run(row, arch, **settings)
        except Exception as error:
            results[way] = Result([f"{type(error).__name__}: {error}"], "", set())
    return results, time.perf_counter() - began


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes in which Triton's interpreter is off."""
    with mock.patch.dict(os.environ):
        os.environ.pop("TRITON_INTERPRET", None)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
            yield executor
