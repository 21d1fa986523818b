"""The CUDA kernels of LRUA's scan, run thread by thread on the CPU: as the reference, and as the step bit for bit."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor

from mannkern.memories.lrua import functional
from mannkern.verification.accuracy import evaluate
from tests.cuda import lrua
from tests.cuda.emulated import COMPILER
from tests.helpers import CASES, Shape, arguments, assert_same, check_kernel, cotangents, run_case

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
    pytest.mark.usefixtures("emulated"),
]
SCANS = ("scan", "scan_strength_per_head")
SHAPES = {
    "standard": Shape(1, 128, 40, 4, 4, T=7),
    "standard_three_heads": Shape(1, 128, 40, 3, 3, T=2),
    "standard_two_heads": Shape(1, 128, 40, 2, 5, T=2),
    "standard_one_head": Shape(1, 128, 40, 1, 1, T=2),
    "many_steps": Shape(3, 33, 4, 2, 2, T=50),
    "one_step": Shape(3, 33, 20, 3, 3, T=1),
    "one_slot": Shape(2, 1, 4, 3, 1, T=7),
    "more_episodes_than_blocks": Shape(17, 33, 4, 1, 1, T=2),
    "every_slot_least_used": Shape(1, 100, 20, 4, 100, T=2),
    "more_least_used_than_heads": Shape(1, 70, 12, 2, 7, T=3),
    "most_slots": Shape(1, 256, 40, 4, 4, T=2),
    "most_columns": Shape(1, 64, 128, 4, 40, T=2),
    "past_four_warps": Shape(3, 129, 20, 4, 4, T=2),
    "no_episodes": Shape(0, 8, 4, 2, 2, T=2),
}
Emulated = Callable[..., None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return lrua.build(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def emulated(library: ctypes.CDLL) -> Iterator[Emulated]:
    """Makes the Functions of step and scan call the emulated kernels; the fixture sets the options of Operations."""
    with ExitStack() as stack:

        def use(**options: bool) -> None:
            stack.enter_context(lrua.replaced(lrua.Operations(library, **options)))

        use()
        yield use


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", SCANS)
def test_accuracy_in_any_order(case: str, shape: str, emulated: Emulated) -> None:
    """Outputs and gradients are accurate, and bit-equal with threads in reverse."""
    size = SHAPES[shape]
    tensors, gradients = arguments(CASES[case], size), cotangents(CASES[case], size)
    got = check_kernel(CASES[case], tensors, gradients, "cuda", size.n)
    emulated(backwards=True)
    assert_same(evaluate(CASES[case], tensors, gradients, "cuda", size.n), got)
