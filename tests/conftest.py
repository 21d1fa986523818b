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

from mannkern.backends import choice, native
from tests.helpers import CPP, MISSING, PLAIN, Kernel, kernels_of, parameter

M_PERTURB = -6  # of glibc's malloc.h: fill what malloc hands out

torch.set_num_threads(1)  # small tensors: waking a second thread costs up to 40 ms on a busy machine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``kernel`` and ``backend`` every kernel of the test's family, where the test has no list of its own.

    The family is the folder of the test, such as tests/memories/lrua.
    """
    for name, first in {"kernel": [], "backend": [PLAIN]}.items():
        if name in metafunc.fixturenames and name not in _own_parameters(metafunc):
            kernels = [*first, *kernels_of(metafunc.definition.path.parent.name)]
            metafunc.parametrize(name, [parameter(kernel=kernel) for kernel in kernels], indirect=True)
    parameters = [parameter(kernel=kernel) for kernel in CPP]
    if "isa" in metafunc.fixturenames and "isa" not in _own_parameters(metafunc):
        metafunc.parametrize("isa", [pytest.param(p.values[0][1], marks=p.marks) for p in parameters], indirect=True)


def _own_parameters(metafunc: pytest.Metafunc) -> set[str]:
    """The arguments that the test's own decorators give values."""
    found: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        found |= {name.strip() for name in names.split(",")} if isinstance(names, str) else set(names)
    return found


@pytest.fixture(scope="module")
def nan_filled_allocations() -> Iterator[None]:
    """Fresh memory is all ones, NaN in every float type, for torch's tensors and for the kernels' own buffers.

    Blocks of up to about 1 kB that malloc takes from its cache of a thread stay as they were, unless the process began
    with GLIBC_TUNABLES=glibc.malloc.tcache_count=0, as in `make test`.
    """
    if sys.platform != "linux" or "ASAN_OPTIONS" in os.environ:  # the sanitizer has no mallopt; it fills by an option
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(M_PERTURB, 0x100)  # malloc fills with the complement of the low byte
    yield
    mallopt(M_PERTURB, 0)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend of a kernel under test, with its instruction set chosen."""
    yield from _on(request.param)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """As ``kernel``; the reference is one of its values."""
    yield from _on(request.param)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """An instruction set of the compiled kernels, chosen for this test."""
    for _ in _on(("cpp", request.param)):
        yield request.param


def _on(kernel: Kernel) -> Iterator[str]:
    backend, isa = kernel
    before = native.isa()
    native.set_isa(isa)
    yield backend
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
    monkeypatch.setattr(choice, "_warned", set())


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library had not been compiled; MISSING is what is said of it."""
    monkeypatch.setattr(native, "reason", MISSING)
