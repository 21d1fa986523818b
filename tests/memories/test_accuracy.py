"""Every kernel against the float64 reference, on named shapes, views, dtypes and extreme values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
import torch

from mannkern import functional
from tests.helpers import (
    CASES,
    KERNELS,
    MAIN_CASES,
    OUTPUTS,
    SHAPES,
    Shape,
    Tensors,
    arguments,
    assert_same,
    check_kernel,
    cotangents,
    evaluate,
    same,
    strided,
)

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


SMALL_TOO = "tcache_count=0" in os.environ.get("GLIBC_TUNABLES", "")  # see nan_filled_allocations


@pytest.mark.skipif(sys.platform != "linux", reason="the poisoning is glibc's")
@pytest.mark.parametrize("count", [*((1, 7, 64) if SMALL_TOO else ()), 1000, 50_000, 10_000_000])
def test_fresh_allocations_hold_nan(count: int) -> None:
    for dtype in (torch.float32, torch.float64):
        assert torch.empty(count, dtype=dtype).isnan().all()
        assert torch.empty_strided((count,), (1,), dtype=dtype).isnan().all()


@FLOATS
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_shapes(kernel: str, case: str, shape: Shape, dtype: torch.dtype) -> None:
    got = check_kernel(
        CASES[case], arguments(CASES[case], shape, dtype), cotangents(CASES[case], shape, dtype), kernel, shape.n
    )
    assert all(x.dtype == dtype for x in got.values())


@pytest.mark.parametrize("kernel", [pair for pair in KERNELS if pair[0] == "cpp"], ids="-".join, indirect=True)
@pytest.mark.parametrize("case", ["step", "read", "write"])
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


@pytest.mark.parametrize("shape", ["standard", "odd", "one_slot"])
@pytest.mark.parametrize("case", MAIN_CASES)
def test_strided_views(kernel: str, case: str, shape: str) -> None:
    tensors, gradients = arguments(CASES[case], SHAPES[shape]), cotangents(CASES[case], SHAPES[shape])
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    assert_same(evaluate(CASES[case], {k: strided(x) for k, x in tensors.items()}, gradients, kernel), expected)
    for name, x in tensors.items():
        assert_same(evaluate(CASES[case], tensors | {name: strided(x)}, gradients, kernel), expected)
    views = {name: strided(x) for name, x in gradients.items()}
    assert_same(evaluate(CASES[case], tensors, views, kernel), expected)


@pytest.mark.parametrize("case", MAIN_CASES)
def test_expanded_arguments_and_gradients(kernel: str, case: str) -> None:
    shape = SHAPES["odd"]
    batch = 1 if case == "scan" else 0  # of keys; the state, where B leads, is contiguous there
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    tensors = {
        name: x.narrow(batch, 0, 1).expand(x.shape) if batch == 0 or name in ("keys", "adds", "gates") else x
        for name, x in tensors.items()
    }
    gradients = {name: x.flatten()[0].expand(x.shape) for name, x in gradients.items()}
    expected = evaluate(
        CASES[case],
        {name: x.contiguous() for name, x in tensors.items()},
        {name: x.contiguous() for name, x in gradients.items()},
        kernel,
    )
    assert_same(evaluate(CASES[case], tensors, gradients, kernel), expected)
    check_kernel(CASES[case], tensors, gradients, kernel)


@pytest.mark.parametrize(
    ("case", "used"), [(case, used) for case in MAIN_CASES for used in OUTPUTS[CASES[case].operation]]
)
def test_loss_of_one_output(kernel: str, case: str, used: str) -> None:
    shape = SHAPES["odd"]
    gradients = cotangents(CASES[case], shape)
    check_kernel(CASES[case], arguments(CASES[case], shape), {used: gradients[used]}, kernel)


@pytest.mark.parametrize("case", MAIN_CASES)
def test_gradients_of_some_arguments(kernel: str, case: str) -> None:
    shape = SHAPES["odd"]
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    for name, x in tensors.items():
        if not x.is_floating_point():
            continue
        got = evaluate(CASES[case], tensors, gradients, kernel, only=name)
        assert_same(got, {k: expected[k] for k in got})


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", MAIN_CASES)
def test_half_precision_is_widened(kernel: str, case: str, half: torch.dtype) -> None:
    shape = SHAPES["odd"]
    tensors, gradients = arguments(CASES[case], shape, half), cotangents(CASES[case], shape)
    got = check_kernel(CASES[case], tensors, gradients, kernel)
    for name, x in got.items():
        assert x.dtype == (half if name.startswith("grad") else torch.float32), name
    mixed = arguments(CASES[case], shape)  # half precision beside a float32 first argument
    first = next(iter(mixed))
    mixed = {name: x if name == first or not x.is_floating_point() else x.to(half) for name, x in mixed.items()}
    check_kernel(CASES[case], mixed, gradients, kernel)


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
