"""LRUA's kernels on extreme values, many slots, and every number of least used slots."""

from __future__ import annotations

import math
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
    is_interpreted,
    kernels_of,
    on_kernels,
    parameter,
    same,
)
from tests.interpreter import MOST_ROUNDS, cell, interpreted, on_shapes

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def test_example(kernel: str) -> None:
    """Slots (3e30, 4e30) and (1, 0), key (1e30, 0): cosines 3/5 and 1, though each square is infinite in float32."""
    memory, key = torch.tensor([[[3e30, 4e30], [1.0, 0]]]), torch.tensor([[[1e30, 0.0]]])
    strength = torch.full((1, 1), 5 * math.log(2))  # exponentials 2^3 and 2^5
    _, weights = functional.cosine_read(memory, key, strength, backend=kernel)
    torch.testing.assert_close(weights, torch.tensor([[[8 / 40, 32 / 40]]]))


@pytest.mark.slow
@on_kernels(["step", "read", "write"], interpreted=False)
def test_sums_over_many_slots_stay_accurate(kernel: str, case: str) -> None:
    shape = Shape(1, 65_536, 40, 4, 4)
    check_kernel(CASES[case], arguments(CASES[case], shape), cotangents(CASES[case], shape), kernel, 4)


# The interpreter searches for few slots by rounds and for many by bisection: both ends of each are enough.
NUMBERS = [
    parameter(n, kernel=kernel)
    for kernel in kernels_of("lrua")
    for n in ((1, MOST_ROUNDS, MOST_ROUNDS + 1, 33) if is_interpreted(kernel) else range(1, 34))
]


@pytest.mark.parametrize(("n", "kernel"), NUMBERS, indirect=["kernel"])
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
@on_shapes(["step_strength"], {"odd": SHAPES["odd"]._replace(B=8)}, ["whole"])
def test_extreme_values(
    kernel: str, case: str, shape: Shape, extreme: Callable[[Tensors], Tensors], dtype: torch.dtype
) -> None:
    tensors = extreme(arguments(CASES[case], shape, dtype))
    check_kernel(CASES[case], tensors, cotangents(CASES[case], shape, dtype), kernel)


@interpreted
@pytest.mark.parametrize("extreme", EXTREMES.values(), ids=EXTREMES)
def test_extreme_values_in_tiles(extreme: Callable[[Tensors], Tensors]) -> None:
    """The same for a memory that Triton's kernels divide into tiles."""
    case, shape = CASES["step_strength"], cell("step_strength", "tiles").shape
    check_kernel(case, extreme(arguments(case, shape)), cotangents(case, shape), "triton")


@pytest.mark.parametrize("scale", [1e200, 1e-200], ids=["huge", "tiny"])
@on_shapes(["step_strength"], {"odd": SHAPES["odd"]}, ["whole"])
def test_extreme_values_of_float64(kernel: str, case: str, shape: Shape, scale: float) -> None:
    tensors = _scaled(scale, "memory", "add", "key")(arguments(CASES[case], shape, torch.float64))
    check_kernel(CASES[case], tensors, cotangents(CASES[case], shape, torch.float64), kernel)
