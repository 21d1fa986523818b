"""What makes the interpreter faster in these tests changes no result, in memory of any path, and no error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from tests import interpreter_calls
from tests.helpers import CASES, EVERY_CASE, arguments, assert_same, cotangents, evaluate, run_case
from tests.interpreter import cell


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    interpreter_calls.replace_once()


@triton.jit
def twice(x):
    return tl.sum(x, 0) * 2


@triton.jit
def twice_kernel(p_x, p_out):
    tl.store(p_out, twice(tl.load(p_x + tl.arange(0, 4))))


@triton.jit
def failing(x):
    tl.static_assert(False, "always")


@triton.jit
def failing_kernel(p_x):
    failing(p_x)


def test_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel calls a function, which calls Triton's ``sum``: one replacement for each module, not for each call."""
    replaced, original = [], interpreter._patch_lang
    monkeypatch.setattr(interpreter, "_patch_lang", lambda fn: (replaced.append(fn.__name__), original(fn))[1])
    out = torch.empty(1)
    twice_kernel[(3,)](torch.tensor([1.0, 2, 3, 4]), out)
    assert out.item() == 20
    faster = replaced.copy()
    interpreter_calls.replace_at_each_call()
    twice_kernel[(3,)](torch.tensor([1.0, 2, 3, 4]), out)
    assert out.item() == 20
    assert "twice" not in faster
    assert len(faster) <= 2
    assert replaced[len(faster) :].count("twice") == 3


@pytest.mark.parametrize(("case", "where"), [("step_per_head", "tiles"), ("scan_strength_per_head", "whole")])
def test_same_bits(case: str, where: str) -> None:
    shape = cell(case, where).shape
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    got = evaluate(CASES[case], tensors, gradients, "triton", shape.n)
    interpreter_calls.replace_at_each_call()
    assert_same(got, evaluate(CASES[case], tensors, gradients, "triton", shape.n))


@pytest.mark.parametrize("where", ["whole", "tiles"])
def test_same_marks(where: str) -> None:
    shape = cell("mask", where).shape
    tensors = arguments(EVERY_CASE["mask"], shape)
    got = run_case(EVERY_CASE["mask"], tensors, "triton", shape.n)
    interpreter_calls.replace_at_each_call()
    assert_same(got, run_case(EVERY_CASE["mask"], tensors, "triton", shape.n))


def test_same_error() -> None:
    messages = []
    for mode in (interpreter_calls.replace_once, interpreter_calls.replace_at_each_call):
        mode()
        with pytest.raises(interpreter.InterpreterError) as caught:
            failing_kernel[(1,)](torch.zeros(1))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
