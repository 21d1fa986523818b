"""Fixtures of every test."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    if importlib.util.find_spec("triton"):
        from tests import fast_interpreter

        fast_interpreter.use(True)

from mannkern.backends import choice, native
from tests.allocations import fill_with_nan
from tests.helpers import CPP, MISSING, PLAIN, Kernel, kernels_of, parameter

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
    """Runs a module's tests on memory that is NaN until a kernel writes it; tests/allocations.py says how."""
    fill_with_nan(True)
    yield
    fill_with_nan(False)


@pytest.fixture(autouse=True)
def few_images_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begins with the mean of 20,000 images. In the small batches of tests, that takes most of a second."""
    monkeypatch.setattr("mannkern.experiments.one_shot.experiment.MEAN_OF", 200)


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
