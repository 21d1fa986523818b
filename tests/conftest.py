"""Fixtures of every test."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

from mannkern import backends, native
from mannkern.backends import BACKENDS, unavailable
from tests.helpers import CASES, KERNELS, MISSING, WITHOUT_GRADIENT

M_PERTURB = -6  # of glibc's malloc.h: fill what malloc hands out

torch.set_num_threads(1)  # small tensors: waking a second thread costs up to 40 ms on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Not every backend has kernels of every family of operations: such a pair is no test.

    The family is that of the test's ``case``, or FAMILY of its module.
    """
    items[:] = [item for item in items if not isinstance(item, pytest.Function) or _is_a_pair(item)]


def _is_a_pair(item: pytest.Function) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    name, kernel = parameters.get("case"), parameters.get("kernel", parameters.get("backend"))
    case = (CASES | WITHOUT_GRADIENT).get(name) if isinstance(name, str) else None
    family = case.family if case else getattr(item.module, "FAMILY", None)
    kernel = kernel[0] if isinstance(kernel, tuple) else kernel
    return family is None or kernel not in BACKENDS or not unavailable(kernel, "cpu", family=family)


@pytest.fixture(scope="module")
def nan_filled_allocations() -> Iterator[None]:
    """Fresh memory is all ones, NaN in every float type, for torch's tensors and for the kernels' own buffers.

    Blocks of up to about 1 kB that malloc takes from its cache of a thread stay as they were, unless the process began
    with GLIBC_TUNABLES=glibc.malloc.tcache_count=0, as in `make test`.
    """
    if sys.platform != "linux":
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(M_PERTURB, 0x100)  # malloc fills with the complement of the low byte
    yield
    mallopt(M_PERTURB, 0)


@pytest.fixture(params=KERNELS, ids="-".join)
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend of each kernel this machine runs, with its instruction set chosen."""
    backend, isa = request.param
    before = native.isa()
    native.set_isa(isa)
    yield backend
    native.set_isa(before)


@pytest.fixture(params=[("reference", ""), *KERNELS], ids=lambda param: "-".join(filter(None, param)))
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The reference and each kernel this machine runs."""
    name, isa = request.param
    before = native.isa()
    native.set_isa(isa)
    yield name
    native.set_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, for this test only."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def no_choice_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backend in the environment, no warning of a fallback given."""
    monkeypatch.delenv("MANNKERN_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_warned", set())


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library had not been compiled; MISSING is what is said of it."""
    monkeypatch.setattr(native, "reason", MISSING)
