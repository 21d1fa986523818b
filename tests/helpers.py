"""Kernels under test, the pairs of a case and a kernel, and assertions of the accuracy rule. Letters as in SPEC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.backends import BACKENDS, REFERENCE, cuda, native, why_not
from mannkern.memories import registry
from mannkern.memories.cases import SHAPES, SMALL, Case, Shape, Tensors, arguments, cotangents, run_case
from mannkern.verification.accuracy import Error, convert, errors, evaluate, measure, relative_errors, same

__all__ = [
    "CASES",
    "CPP",
    "EVERY_CASE",
    "MAIN_CASES",
    "MISSING",
    "SHAPES",
    "SMALL",
    "Case",
    "Kernel",
    "Shape",
    "Tensors",
    "arguments",
    "as_function",
    "assert_accurate",
    "assert_same",
    "check_kernel",
    "convert",
    "cotangents",
    "evaluate",
    "kernels_of",
    "on_backends",
    "on_kernels",
    "operations",
    "pairs",
    "pretend_gpu",
    "relative_errors",
    "run_case",
    "same",
    "strided",
]

MISSING = "the compiled library was not built; with a C++ compiler: pip install"

EVERY_CASE = registry.cases()
CASES = {name: case for name, case in EVERY_CASE.items() if case.operation.differentiable}
MAIN_CASES = (
    "write_reset",
    "read_strength",
    "usage",
    "step_strength",
    "step_per_head",
    "scan",
    "shift_sharpen",
    "ntm_address",
    "ntm_write",
)

Kernel = tuple[str, str]  # backend, and the instruction set of compiled CPU kernels


def _isas() -> list[str]:
    before = native.isa()
    isas = [name for name in ("portable", "avx2", "avx512") if native.set_isa(name)]
    native.set_isa(before)
    return isas


CPP: list[Kernel] = [("cpp", isa) for isa in _isas() or ["portable"]]
PLAIN: Kernel = (REFERENCE.name, "")


def kernels_of(family: str) -> list[Kernel]:
    """The kernels of a family's operations that this machine runs on CPU tensors."""
    if family not in registry.FAMILIES:
        raise ValueError(f"family: got {family!r}, need one of {', '.join(registry.FAMILIES)}")
    kernels: list[Kernel] = []
    for backend in BACKENDS.values():
        if family in backend.families and not why_not(backend, family, "cpu"):
            kernels += CPP if backend.name == "cpp" else [(backend.name, "")]
    return kernels


def is_interpreted(kernel: Kernel) -> bool:
    """Whether the kernel is made for a GPU and runs in an interpreter here, which is slow."""
    backend = BACKENDS[kernel[0]]
    return backend is not REFERENCE and "cpu" not in backend.devices


def parameter(*values: Any, kernel: Kernel, label: str | None = None) -> Any:
    """A set of parameters that ends with ``kernel``; ``label`` is for its id.

    It is marked where an interpreter runs the kernel, and as slow for all instruction sets but the best of this
    machine: they are compiled from the same source, so that the inner loop does without them.
    """
    marks = [pytest.mark.interpreter] if is_interpreted(kernel) else [pytest.mark.slow] if kernel in CPP[:-1] else []
    words = list(map(str, values)) if label is None else [label]
    return pytest.param(*values, kernel, marks=marks, id="-".join(filter(None, [*words, *kernel])))


def pairs(cases: Iterable[str], *, reference: bool = False, interpreted: bool = True) -> list[tuple[str, Kernel]]:
    """Each case with each kernel of its family; with ``reference``, also with the reference."""
    every_pair = []
    for name in cases:
        kernels = kernels_of(EVERY_CASE[name].operation.family)
        every_pair += [(name, kernel) for kernel in ([PLAIN] if reference else []) + kernels]
    return [(name, kernel) for name, kernel in every_pair if interpreted or not is_interpreted(kernel)]


def on_kernels(cases: Iterable[str], *, interpreted: bool = True) -> pytest.MarkDecorator:
    """Run the test with ``case`` and ``kernel`` on every pair; without ``interpreted``, on compiled kernels alone."""
    sets = [parameter(name, kernel=kernel) for name, kernel in pairs(cases, interpreted=interpreted)]
    return pytest.mark.parametrize(("case", "kernel"), sets, indirect=["kernel"])


def on_backends(cases: Iterable[str], *, interpreted: bool = True) -> pytest.MarkDecorator:
    """As ``on_kernels`` with ``backend`` for ``kernel``, and on the reference too."""
    sets = [parameter(name, kernel=kernel) for name, kernel in pairs(cases, reference=True, interpreted=interpreted)]
    return pytest.mark.parametrize(("case", "backend"), sets, indirect=["backend"])


def operations() -> dict[str, Any]:
    """The operations of all families by name."""
    return {name: op for family in registry.FAMILIES.values() for name, op in family.operations.items()}


def assert_same(got: Tensors, expected: Tensors) -> None:
    """Every result is bit-equal."""
    assert got.keys() == expected.keys()
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"not bit-equal: {different}"


def assert_accurate(got: Tensors, truth: Tensors, float32_reference: Tensors | None) -> None:
    """The accuracy rule holds."""
    assert got.keys() == truth.keys()
    _assert_allowed(errors(got, truth, float32_reference))


def _assert_allowed(measured: dict[str, Error]) -> None:
    wrong = [
        f"{name}: {error.measured:.2e}, allowed {error.allowed:.2e}"
        for name, error in measured.items()
        if not error.measured <= error.allowed
    ]
    assert not wrong, f"relative errors: {'; '.join(wrong)}"


def check_kernel(case: Case, tensors: Tensors, gradients: Tensors, backend: str, n: int | None = None) -> Tensors:
    """The results of ``backend``, which must keep the accuracy rule; results in float64 must be right to 1e-12."""
    got, measured = measure(case, tensors, gradients, backend, n)
    _assert_allowed(measured)
    return got


def as_function(case: str, shape: Shape, backend: str) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """The operation of a case as a function of its float arguments alone, and random float64 values of them."""
    tensors = arguments(CASES[case], shape, torch.float64)
    names = [name for name, x in tensors.items() if x.is_floating_point()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_case(CASES[case], tensors | dict(zip(names, values)), backend, shape.n).values())

    return outputs, tuple(tensors[name].requires_grad_() for name in names)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def strided(x: Tensor) -> Tensor:
    """The values of ``x`` as a view with dimensions reversed in memory and gaps between elements, NaN in the gaps."""
    dimensions = range(x.dim() - 1, -1, -1)
    gap = float("nan") if x.is_floating_point() else -1
    buffer = torch.full([2 * x.shape[d] + 1 for d in dimensions], gap, dtype=x.dtype)
    view = buffer[tuple(slice(1, None, 2) for _ in dimensions)].permute(*dimensions)
    view.copy_(x)
    return view


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0)) -> None:
    """The CUDA library seems to be loaded, and the current device to be a GPU of this compute capability."""
    monkeypatch.setattr(native, "cuda_reason", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(native, "has_cuda_kernels", lambda index: True)
    monkeypatch.setattr(cuda, "_reasons", {})
