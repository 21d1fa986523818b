"""Every kernel is compared with the float64 reference: named shapes, views, one output or argument, half precision."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from mannkern.verification.verify import LONG
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
    strided,
)
from tests.interpreter import on_shapes

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


@on_kernels(["write"])
def test_example(kernel: str, case: str) -> None:
    """Two heads write to two slots: [[1, 2], [3, 4]] + [[1/2], [0]] [4, 8] + [[0], [1]] [1, 1]."""
    tensors = {
        "memory": torch.tensor([[[1.0, 2], [3, 4]]]),
        "write_weights": torch.tensor([[[0.5, 0], [0, 1]]]),
        "add": torch.tensor([[[4.0, 8], [1, 1]]]),
    }
    got = check_kernel(CASES[case], tensors, {"memory": torch.ones(1, 2, 2)}, kernel)
    assert got["memory"].tolist() == [[[3, 6], [4, 5]]]
    assert got["grad add"].tolist() == [[[0.5, 0.5], [1, 1]]]  # each head's weights added up


FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


SMALL_TOO = "tcache_count=0" in os.environ.get("GLIBC_TUNABLES", "")  # see tests/allocations.py


@pytest.mark.skipif(sys.platform != "linux", reason="the poisoning is glibc's")
@pytest.mark.parametrize("count", [*((1, 7, 64) if SMALL_TOO else ()), 1000, 50_000, 10_000_000])
def test_fresh_allocations_hold_nan(count: int) -> None:
    for dtype in (torch.float32, torch.float64):
        assert torch.empty(count, dtype=dtype).isnan().all()
        assert torch.empty_strided((count,), (1,), dtype=dtype).isnan().all()


def only(*names: str) -> dict[str, Shape]:
    return {name: SHAPES[name] for name in names}


@FLOATS
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@on_kernels(CASES, interpreted=False)
def test_shapes(kernel: str, case: str, shape: Shape, dtype: torch.dtype) -> None:
    """The accuracy rule. Of Triton's kernels, tests/triton/test_accuracy.py checks the cells of a table."""
    got = check_kernel(
        CASES[case], arguments(CASES[case], shape, dtype), cotangents(CASES[case], shape, dtype), kernel, shape.n
    )
    assert all(x.dtype == dtype for x in got.values())


@pytest.mark.slow
@pytest.mark.parametrize("shape", LONG.values(), ids=LONG)
@on_kernels([name for name, case in CASES.items() if case.operation.differentiable], interpreted=False)
def test_long_sums(kernel: str, case: str, shape: Shape) -> None:
    """One chain of float32 over all slots, or over all columns, would lose a digit."""
    shape = shape._replace(B=4)
    check_kernel(CASES[case], arguments(CASES[case], shape), cotangents(CASES[case], shape), kernel, shape.n)


@on_shapes(MAIN_CASES, only("standard", "odd", "one_slot"), ["whole"])
def test_strided_views(kernel: str, case: str, shape: Shape) -> None:
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    assert_same(evaluate(CASES[case], {k: strided(x) for k, x in tensors.items()}, gradients, kernel), expected)
    for name, x in tensors.items():
        assert_same(evaluate(CASES[case], tensors | {name: strided(x)}, gradients, kernel), expected)
    views = {name: strided(x) for name, x in gradients.items()}
    assert_same(evaluate(CASES[case], tensors, views, kernel), expected)


@on_shapes(MAIN_CASES, only("odd"), ["whole"])
def test_expanded_arguments_and_gradients(kernel: str, case: str, shape: Shape) -> None:
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


@on_shapes(MAIN_CASES, only("odd"))
def test_loss_of_one_output(kernel: str, case: str, shape: Shape) -> None:
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    for name, gradient in gradients.items():
        check_kernel(CASES[case], tensors, {name: gradient}, kernel)


@on_shapes(MAIN_CASES, only("odd"), ["whole"])
def test_gradients_of_some_arguments(kernel: str, case: str, shape: Shape) -> None:
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    for name, x in tensors.items():
        if not x.is_floating_point():
            continue
        got = evaluate(CASES[case], tensors, gradients, kernel, only=name)
        assert_same(got, {k: expected[k] for k in got})


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@on_shapes(MAIN_CASES, only("odd"), ["whole"])
def test_half_precision_is_widened(kernel: str, case: str, shape: Shape, half: torch.dtype) -> None:
    tensors, gradients = arguments(CASES[case], shape, half), cotangents(CASES[case], shape)
    got = check_kernel(CASES[case], tensors, gradients, kernel)
    for name, x in got.items():
        assert x.dtype == (half if name.startswith("grad") else torch.float32), name
    mixed = arguments(CASES[case], shape)  # half precision beside a float32 first argument
    first = next(iter(mixed))
    mixed = {name: x if name == first or not x.is_floating_point() else x.to(half) for name, x in mixed.items()}
    check_kernel(CASES[case], mixed, gradients, kernel)
