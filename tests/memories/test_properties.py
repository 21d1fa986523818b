"""An operation's results do not depend on the rest of the batch, on the number of threads, or on earlier calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.helpers import (
    CASES,
    MAIN_CASES,
    SHAPES,
    Shape,
    arguments,
    assert_same,
    cotangents,
    evaluate,
    on_kernels,
    same,
)
from tests.interpreter import on_shapes

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example() -> None:
    """The usage of two episodes: [1, 2] / 2 + [1, 0] + [0, 1] and the same of [3, 4], each as if it were alone."""
    usage, read, write = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[[1.0, 0]]]), torch.tensor([[[0.0, 1]]])
    both = functional.usage_update(usage, read.expand(2, 1, 2), write.expand(2, 1, 2), 0.5)
    assert both.tolist() == [[1.5, 2], [2.5, 3]]
    assert functional.usage_update(usage[1:], read, write, 0.5).tolist() == [[2.5, 3]]


@on_shapes(MAIN_CASES, {name: SHAPES[name] for name in ("standard", "odd", "one_slot", "nine_least_used")})
def test_splitting_the_batch_changes_nothing(kernel: str, case: str, shape: Shape) -> None:
    parts = ((0, 2), (2, 3), (3, 5)) if kernel == "cpp" else ((0, 1), (1, 3))  # an interpreter is slow
    whole = shape._replace(B=parts[-1][-1])
    axis = {**dict.fromkeys(("keys", "adds", "gates", "strengths", "reads"), 1)}

    def part(tensors: dict[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
        results = {}
        for name, x in tensors.items():
            at = axis.get(name.removeprefix("grad "), 0)
            results[name] = x.narrow(at, start, stop - start)
        return results

    tensors, gradients = arguments(CASES[case], whole), cotangents(CASES[case], whole)
    expected = evaluate(CASES[case], tensors, gradients, kernel, whole.n)
    for start, stop in parts:
        got = evaluate(CASES[case], part(tensors, start, stop), part(gradients, start, stop), kernel, whole.n)
        assert_same(got, part(expected, start, stop))


@on_kernels(MAIN_CASES, interpreted=False)
def test_threads_change_nothing(kernel: str, case: str, threads: Callable[[int], None]) -> None:
    shape = Shape(170, 33, 17, 3, 3)  # two threads get work: a thread takes 39 episodes of N W R = 1683 or more
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    threads(1)
    expected = evaluate(CASES[case], tensors, gradients, kernel, 3)
    threads(2)
    assert_same(evaluate(CASES[case], tensors, gradients, kernel, 3), expected)


@on_shapes(MAIN_CASES, {"odd": SHAPES["odd"]}, ["whole"], reference=True)
def test_runs_are_alike(backend: str, case: str, shape: Shape) -> None:
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, backend)
    for _ in range(3):
        assert_same(evaluate(CASES[case], tensors, gradients, backend), expected)


@on_shapes(MAIN_CASES, {"odd": SHAPES["odd"]})
def test_calls_leave_nothing_behind(kernel: str, case: str, shape: Shape) -> None:
    """NaN in the scratch memory of a larger call, or in another episode of the batch, reaches no episode."""
    shape = shape._replace(B=max(shape.B, 2))
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    larger = shape._replace(N=130, W=40, R=6) if kernel == "cpp" else shape._replace(N=shape.N + 3, R=shape.R + 1)
    filled = arguments(CASES[case], larger)
    filled = {
        k: torch.full_like(x, torch.nan) if x.is_floating_point() and "strength" not in k else x
        for k, x in filled.items()
    }
    evaluate(CASES[case], filled, cotangents(CASES[case], larger), kernel)
    assert_same(evaluate(CASES[case], tensors, gradients, kernel), expected)
    first = {name: x.clone() for name, x in tensors.items()}
    for name, x in first.items():
        if x.is_floating_point() and "strength" not in name:
            x.select(1 if name in ("keys", "adds", "gates") else 0, 0).fill_(torch.nan)
    got = evaluate(CASES[case], first, gradients, kernel)
    for name, x in got.items():
        batch = 1 if name.removeprefix("grad ") in ("reads", "keys", "adds", "gates") else 0
        rest = x.narrow(batch, 1, shape.B - 1)
        assert same(rest, expected[name].narrow(batch, 1, shape.B - 1)), name
