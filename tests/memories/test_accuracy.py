"""Every kernel against the float64 reference, on named shapes, views, dtypes and extreme values."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from tests.helpers import (
    CASES,
    MAIN_CASES,
    SHAPES,
    Shape,
    arguments,
    assert_same,
    check_kernel,
    cotangents,
    evaluate,
    on_kernels,
    pairs,
    parameter,
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
@on_kernels(CASES)
def test_shapes(kernel: str, case: str, shape: Shape, dtype: torch.dtype) -> None:
    got = check_kernel(
        CASES[case], arguments(CASES[case], shape, dtype), cotangents(CASES[case], shape, dtype), kernel, shape.n
    )
    assert all(x.dtype == dtype for x in got.values())


@pytest.mark.parametrize("shape", ["standard", "odd", "one_slot"])
@on_kernels(MAIN_CASES)
def test_strided_views(kernel: str, case: str, shape: str) -> None:
    tensors, gradients = arguments(CASES[case], SHAPES[shape]), cotangents(CASES[case], SHAPES[shape])
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    assert_same(evaluate(CASES[case], {k: strided(x) for k, x in tensors.items()}, gradients, kernel), expected)
    for name, x in tensors.items():
        assert_same(evaluate(CASES[case], tensors | {name: strided(x)}, gradients, kernel), expected)
    views = {name: strided(x) for name, x in gradients.items()}
    assert_same(evaluate(CASES[case], tensors, views, kernel), expected)


@on_kernels(MAIN_CASES)
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
    ("case", "used", "kernel"),
    [
        parameter(case, used, kernel=kernel)
        for case, kernel in pairs(MAIN_CASES)
        for used in CASES[case].operation.outputs
    ],
    indirect=["kernel"],
)
def test_loss_of_one_output(kernel: str, case: str, used: str) -> None:
    shape = SHAPES["odd"]
    gradients = cotangents(CASES[case], shape)
    check_kernel(CASES[case], arguments(CASES[case], shape), {used: gradients[used]}, kernel)


@on_kernels(MAIN_CASES)
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
@on_kernels(MAIN_CASES)
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
