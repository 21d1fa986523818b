"""LRUA's kernels on extreme values, many slots, and every number of least used slots."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mannkern import functional
from tests.helpers import (
    CASES,
    SHAPES,
    Shape,
    Tensors,
    arguments,
    check_kernel,
    cotangents,
    on_kernels,
    same,
)

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@on_kernels(["step", "read", "write"], interpreted=False)
def test_sums_over_many_slots_stay_accurate(kernel: str, case: str) -> None:
    shape = Shape(1, 65_536, 40, 4, 4)
    check_kernel(CASES[case], arguments(CASES[case], shape), cotangents(CASES[case], shape), kernel, 4)


@pytest.mark.parametrize("n", range(1, 34))
def test_every_number_of_least_used_slots(kernel: str, n: int) -> None:
    shape = Shape(2, 33, 5, 3, n)
    case = CASES["step"]
    tensors = arguments(case, shape)
    check_kernel(case, tensors, cotangents(case, shape), kernel, n)
    mask = functional.least_used_mask(tensors["usage"], n, backend=kernel)
    assert same(mask, functional.least_used_mask(tensors["usage"], n, backend="reference"))


def _scaled(factor: float, *names: str) -> Callable[[Tensors], Tensors]:
    return lambda t: {k: factor * x if k in names else x for k, x in t.items()}


def _zero_rows(tensors: Tensors) -> Tensors:
    memory, weights, key = (tensors[name].clone() for name in ("memory", "read_weights", "key"))
    memory[:, ::3], weights[:, :, ::3], key[:, 0] = 0, 0, 0
    return tensors | {"memory": memory, "read_weights": weights, "key": key}


def _wide_range(tensors: Tensors) -> Tensors:
    scale = torch.logspace(-30, 15, tensors["memory"].shape[1]).unsqueeze(-1)
    return tensors | {"memory": tensors["memory"] * scale.to(tensors["memory"].dtype), "add": 1e-9 * tensors["add"]}


EXTREMES: dict[str, Callable[[Tensors], Tensors]] = {
    "zero_rows_and_keys": _zero_rows,
    "all_zero": _scaled(0.0, "memory", "key", "add", "gate", "usage", "read_weights"),
    "no_strength": _scaled(0.0, "strength"),
    "strong": _scaled(10.0, "strength"),
    "open_gate": lambda t: t | {"gate": torch.full_like(t["gate"], 1e4)},
    "closed_gate": lambda t: t | {"gate": torch.full_like(t["gate"], -1e4)},
    "tiny_memory": _scaled(1e-30, "memory", "add"),
    "tiny_keys": _scaled(1e-30, "key"),
    "about_eps": _scaled(4e-9, "memory", "add", "key"),
    "large": _scaled(1e15, "memory", "add", "key"),
    "huge_memory": _scaled(1e30, "memory", "add"),
    "huge_keys": _scaled(1e30, "key"),
    "huge": _scaled(1e30, "memory", "add", "key"),
    "wide_range": _wide_range,
}


@FLOATS
@pytest.mark.parametrize("extreme", EXTREMES.values(), ids=EXTREMES)
def test_extreme_values(kernel: str, extreme: Callable[[Tensors], Tensors], dtype: torch.dtype) -> None:
    case, shape = CASES["step_strength"], SHAPES["odd"]._replace(B=8)
    check_kernel(case, extreme(arguments(case, shape, dtype)), cotangents(case, shape, dtype), kernel)


@pytest.mark.parametrize("scale", [1e200, 1e-200], ids=["huge", "tiny"])
def test_extreme_values_of_float64(kernel: str, scale: float) -> None:
    case, shape = CASES["step_strength"], SHAPES["odd"]
    tensors = _scaled(scale, "memory", "add", "key")(arguments(case, shape, torch.float64))
    check_kernel(case, tensors, cotangents(case, shape, torch.float64), kernel)
