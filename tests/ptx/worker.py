"""A process that runs rows of the table, because Triton's interpreter is on in that of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING
from unittest import mock

from tests.ptx.table import Row

if TYPE_CHECKING:
    from tests.ptx.checks import Result


def run(row: Row, arch: int = 90, perturb: int = 0, fused: bool = False) -> Result:
    """See :func:`tests.ptx.checks.run`."""
    from tests.ptx import checks  # here, because it makes Triton compile for the emulator

    return checks.run(row, arch, perturb, fused)


@contextmanager
def pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes in which Triton's interpreter is off."""
    with mock.patch.dict(os.environ):
        os.environ.pop("TRITON_INTERPRET", None)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
            yield executor
