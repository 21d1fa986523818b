"""The scan: T steps in one kernel or in tiles, what it keeps for its backward pass, the slots of a thousand steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.scans import STATE, by_steps, episode, thousand_steps

from mannkern.triton import launch_scan, paths
from tests.helpers import (
    CASES,
    Shape,
    Tensors,
    arguments,
    assert_same,
    call,
    check_kernel,
    convert,
    cotangents,
    evaluate,
    relative_errors,
    same,
)
from tests.triton.recorder import Recorder

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

WHOLE = Shape(2, 12, 5, 2, 2)
TILED = Shape(1, 20, 300, 2, 3)


@pytest.mark.parametrize("shape", [WHOLE._replace(T=6), Shape(1, 9, 512, 2, 2, T=6)], ids=["whole", "tiles"])
@pytest.mark.parametrize(("case", "begin"), [("scan", arguments), ("scan_strength_per_head", episode)])
def test_scan_is_its_steps(case: str, shape: Shape, begin: Callable[..., Tensors]) -> None:
    assert paths.memory_blocks(shape.N, shape.W, torch.float64).whole == (shape.W == 5)
    tensors = begin(CASES[case], shape, torch.float64)
    gradients = cotangents(CASES[case], shape, torch.float64)
    got = evaluate(CASES[case], tensors, gradients, "triton", shape.n)
    errors = relative_errors(got, by_steps(CASES[case], tensors, gradients, shape.n, "triton"))
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.parametrize(("T", "left"), [(1, 0), (2, 0), (5, 0), (6, 1)])
def test_lengths(T: int, left: int) -> None:
    """One step, a whole number of spans, and not."""
    assert T % paths.scan_span(T) == left
    case, shape = CASES["scan_strength_per_head"], WHOLE._replace(T=T)
    check_kernel(case, episode(case, shape, torch.float64), cotangents(case, shape, torch.float64), "triton", shape.n)


@pytest.mark.parametrize(("shape", "span"), [(WHOLE, 1), (WHOLE, 2), (TILED, 2)], ids=["whole-1", "whole-2", "tiles-2"])
def test_several_copies(shape: Shape, span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the sequence begins from its own copy: the span changes no bit."""
    case, shape = CASES["scan"], shape._replace(T=5)
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    expected = evaluate(case, tensors, gradients, "triton", shape.n)
    monkeypatch.setattr(launch_scan, "scan_span", lambda T: span)
    assert_same(evaluate(case, tensors, gradients, "triton", shape.n), expected)


@pytest.mark.parametrize("B", [1, 3, 5])
def test_more_episodes_than_programs(B: int) -> None:
    assert paths.scan_programs(torch.device("cpu")) == 2
    case, shape = CASES["scan"], Shape(B, 12, 5, 2, 2, T=3)
    got = check_kernel(case, arguments(case, shape), cotangents(case, shape), "triton", shape.n)
    last = {
        name: x.narrow(int(name in ("keys", "adds", "gates")), B - 1, 1) for name, x in arguments(case, shape).items()
    }
    gradients = {name: x.narrow(int(name == "reads"), B - 1, 1) for name, x in cotangents(case, shape).items()}
    alone = evaluate(case, last, gradients, "triton", shape.n)
    assert same(alone["grad memory"], got["grad memory"][-1:])
    assert same(alone["grad keys"], got["grad keys"][:, -1:])


@pytest.mark.parametrize("used", ["reads", "memory", "read_weights", "usage"])
@pytest.mark.parametrize("shape", [WHOLE._replace(T=2), TILED._replace(T=2)], ids=["whole", "tiles"])
def test_gradient_of_one_result(shape: Shape, used: str) -> None:
    case = CASES["scan"]
    check_kernel(case, arguments(case, shape), {used: cotangents(case, shape)[used]}, "triton", shape.n)


@pytest.mark.parametrize("T", [1, 5, 6, 14])
@pytest.mark.parametrize("shape", [Shape(1, 9, 3, 1, 2), Shape(1, 20, 300, 1, 2)], ids=["whole", "tiles"])
def test_what_is_saved(T: int, shape: Shape) -> None:
    """Marks of every step and a few copies of the memory; nothing under no_grad."""
    assert paths.memory_blocks(shape.N, shape.W, torch.float32).whole == (shape.W == 3)
    case, shape = CASES["scan"], shape._replace(T=T)
    tensors = arguments(case, shape)
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    with Recorder() as recorder:
        saved = call(case, leaves, "triton", shape.n)["reads"].grad_fn.saved_tensors
        with torch.no_grad():
            call(case, leaves, "triton", shape.n)
    kept, (*_, marks, copies, weights_copies) = (x.outputs[4:] for x in recorder.calls["lrua_scan"])
    count = -(-T // paths.scan_span(T)) - 1
    assert [x.shape for x in kept] == [(T, 1, shape.N), (count, 1, shape.N, shape.W), (count, 1, 1, shape.N)]
    assert kept[0].dtype == torch.int8
    assert ((kept[0] > 0).sum(-1) == shape.n).all()
    assert marks.numel() == copies.numel() == weights_copies.numel() == 0
    given = {x.data_ptr() for x in tensors.values()}
    floats = [x for x in saved if x is not None and x.is_floating_point() and x.data_ptr() not in given]
    assert sum(x.numel() for x in floats) == count * shape.N * (shape.W + 1)


@pytest.mark.parametrize(("shape", "dtype"), [(WHOLE, torch.float16), (TILED, torch.bfloat16)], ids=["whole", "tiles"])
def test_half_precision(shape: Shape, dtype: torch.dtype) -> None:
    """Half precision beside a float32 state: as its values in float32, gradients in its type."""
    case = CASES["scan_strength_per_head"]
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    half = {name: x if name in STATE else x.to(dtype) for name, x in tensors.items()}
    got = evaluate(case, half, gradients, "triton", shape.n)
    wide = evaluate(case, convert(half, torch.float32), gradients, "triton", shape.n)
    for name, x in wide.items():
        expected = x.to(half[name.removeprefix("grad ")].dtype) if name.startswith("grad") else x
        assert got[name].dtype == expected.dtype, name
        torch.testing.assert_close(got[name], expected, rtol=2 * torch.finfo(expected.dtype).eps, atol=1e-6)


def test_thousand_steps_mark_the_right_slots() -> None:
    with Recorder() as recorder:
        chosen = thousand_steps("triton")
    marks = recorder.calls["lrua_scan"][0].outputs[4]
    assert torch.equal(chosen, marks.argmax(-1)[:, 0])
