"""Kernels under test, and assertions of the rule of accuracy. Letters as in the library."""

from __future__ import annotations

import torch
from mannkern.verification.cases import (
    ARGUMENTS,
    CASES,
    OUTPUTS,
    SHAPES,
    SMALL,
    WITHOUT_GRADIENT,
    Case,
    Shape,
    Tensors,
    arguments,
    call,
    cotangents,
)
from torch import Tensor

from mannkern import native
from mannkern.backends import unavailable
from mannkern.verification.accuracy import Error, convert, errors, evaluate, measure, relative_errors, same

__all__ = [
    "ARGUMENTS",
    "CASES",
    "KERNELS",
    "MAIN_CASES",
    "MISSING",
    "OUTPUTS",
    "SHAPES",
    "SMALL",
    "WITHOUT_GRADIENT",
    "Case",
    "Shape",
    "Tensors",
    "arguments",
    "assert_accurate",
    "assert_same",
    "call",
    "check_kernel",
    "convert",
    "cotangents",
    "evaluate",
    "relative_errors",
    "same",
    "strided",
]


MISSING = "the compiled library was not built; with a C++ compiler: pip install"


def _isas() -> list[str]:
    before = native.isa()
    found = [name for name in ("portable", "avx2", "avx512") if native.set_isa(name)]
    native.set_isa(before)
    return found


# Every kernel this machine runs on CPU tensors, as (backend, instruction set). A new backend joins here.
KERNELS = [("cpp", isa) for isa in _isas() or ["portable"]]
if not unavailable("triton", "cpu"):
    KERNELS.append(("triton", ""))
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


def assert_same(got: Tensors, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"not bit-equal: {different}"


def assert_accurate(got: Tensors, truth: Tensors, float32_reference: Tensors | None) -> None:
    """The rule of accuracy holds."""
    assert got.keys() == truth.keys()
    _assert(errors(got, truth, float32_reference))


def _assert(found: dict[str, Error]) -> None:
    wrong = [f"{name}: {x.found:.2e}, allowed {x.allowed:.2e}" for name, x in found.items() if not x.found <= x.allowed]
    assert not wrong, f"relative errors: {'; '.join(wrong)}"


def check_kernel(case: Case, tensors: Tensors, gradients: Tensors, backend: str, n: int | None = None) -> Tensors:
    """Evaluate ``backend`` and hold it against the references in float64 and float32, or in float64 to 1e-12."""
    got, found = measure(case, tensors, gradients, backend, n)
    _assert(found)
    return got


def strided(x: Tensor) -> Tensor:
    """The values of ``x`` as a view with dimensions reversed in memory and gaps between elements, NaN in the gaps."""
    dimensions = range(x.dim() - 1, -1, -1)
    gap = float("nan") if x.is_floating_point() else -1
    buffer = torch.full([2 * x.shape[d] + 1 for d in dimensions], gap, dtype=x.dtype)
    view = buffer[tuple(slice(1, None, 2) for _ in dimensions)].permute(*dimensions)
    view.copy_(x)
    return view
