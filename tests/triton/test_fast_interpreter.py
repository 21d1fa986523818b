"""The fast interpreter gives the bits and errors of Triton's own, for kernels on each path of the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from tests import fast_interpreter
from tests.helpers import CASES, EVERY_CASE, arguments, assert_same, cotangents, evaluate, run_case
from tests.interpreter import cell


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    fast_interpreter.use(True)


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
def three_kernel(p_x):
    tl.store(p_x, tl.sum(tl.zeros((3,), tl.float32), 0))


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
    fast_interpreter.use(False)
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
    fast_interpreter.use(False)
    assert_same(got, evaluate(CASES[case], tensors, gradients, "triton", shape.n))


@pytest.mark.parametrize("where", ["whole", "tiles"])
def test_same_marks(where: str) -> None:
    shape = cell("mask", where).shape
    tensors = arguments(EVERY_CASE["mask"], shape)
    got = run_case(EVERY_CASE["mask"], tensors, "triton", shape.n)
    fast_interpreter.use(False)
    assert_same(got, run_case(EVERY_CASE["mask"], tensors, "triton", shape.n))


@pytest.mark.parametrize(("kernel", "said"), [(failing_kernel, "always"), (three_kernel, "must be a power of 2")])
def test_same_error(kernel: Any, said: str) -> None:
    messages = []
    for fast in (True, True, False):
        fast_interpreter.use(fast)
        with pytest.raises(interpreter.InterpreterError, match=said) as caught:
            kernel[(1,)](torch.zeros(1))
        messages.append(str(caught.value))
    assert len(set(messages)) == 1


def test_shapes_and_types() -> None:
    """Blocks of one shape share it, and those of other types or sizes do not."""
    for shape in ([4], [2, 8], [tl.constexpr(4)], [8, 2]):
        for element in (tl.float32, tl.int8, tl.pointer_type(tl.float32), tl.pointer_type(tl.float16)):
            found = []
            for fast in (True, True, False):
                fast_interpreter.use(fast)
                block = tl.block_type(element, shape)
                x = tl.tensor(None, block)
                scalar = tl.tensor(None, element)
                sizes = [[int(n.value) for n in of.shape] for of in (x, scalar)]
                kind = (interpreter._get_np_dtype(block), interpreter._get_np_dtype(element))
                found.append((list(block.shape), block.numel, block.name, x.dtype, x.numel.value, *sizes, kind))
            assert found[0] == found[1] == found[2]
