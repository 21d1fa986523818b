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
from tests.memories.lrua import scans

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
def library() -> ctypes.CDLL:
    return lrua.build()


@pytest.fixture
def emulated(library: ctypes.CDLL) -> Iterator[Emulated]:
    """Makes the Functions of step and scan call the emulated kernels; the fixture sets the options of Operations."""
    with ExitStack() as stack:

        def use(**options: bool) -> None:
            stack.enter_context(lrua.replaced(lrua.Operations(library, **options)))

        use()
        yield use


def test_example() -> None:
    """Two steps on an empty memory: half of each add goes to slot 1, which was used less, half to where it read."""
    memory, weights, usage = torch.zeros(1, 2, 4), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[2.0, 1.0]])
    keys = torch.tensor([2.0, 0.0, 0.0, 0.0]).expand(2, 1, 1, 4)
    found = functional.lrua_scan(memory, weights, usage, keys, keys, torch.zeros(2, 1, 1), decay=0.5, backend="cuda")
    assert found.reads[..., 0].flatten().tolist() == [1, 1.5]
    assert found.memory[0, :, 0].tolist() == [1.5, 1.5]
    assert found.usage.flatten().tolist() == [1.75, 2]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", SCANS)
def test_accuracy_in_any_order(case: str, shape: str, emulated: Emulated) -> None:
    """Outputs and gradients are accurate, and bit-equal with threads in reverse."""
    size = SHAPES[shape]
    tensors, gradients = arguments(CASES[case], size), cotangents(CASES[case], size)
    got = check_kernel(CASES[case], tensors, gradients, "cuda", size.n)
    emulated(backwards=True)
    assert_same(evaluate(CASES[case], tensors, gradients, "cuda", size.n), got)


@pytest.mark.parametrize("shape", ["standard", "many_steps", "one_slot", "past_four_warps"])
@pytest.mark.parametrize("case", SCANS)
def test_bits_of_the_step(case: str, shape: str) -> None:
    """A scan and a loop of steps give the same bits, and so do their gradients."""
    size = SHAPES[shape]
    tensors, gradients = arguments(CASES[case], size), cotangents(CASES[case], size)
    scanned = evaluate(CASES[case], tensors, gradients, "cuda", size.n)
    assert_same(scans.by_steps(CASES[case], tensors, gradients, size.n, "cuda"), scanned)


@pytest.mark.parametrize("used", ["reads", "memory", "read_weights", "usage"])
def test_gradients_of_one_result(used: str) -> None:
    """The loss does not use the other results, whose gradients do not reach the kernel."""
    case, shape = CASES["scan"], Shape(2, 40, 8, 2, 2, T=5)
    check_kernel(case, arguments(case, shape), {used: cotangents(case, shape)[used]}, "cuda", shape.n)


def test_slots_and_keys_without_length_or_of_great_length() -> None:
    case, shape = CASES["scan_strength_per_head"], Shape(2, 128, 40, 4, 4, T=2)
    tensors = arguments(case, shape)
    tensors["memory"][0, ::3] = 0
    tensors["read_weights"][0, :, ::3] = 0
    tensors["memory"][1, ::3] *= 1e25
    tensors["keys"][:, 0, 0] = 0
    tensors["keys"][:, 1, 1] *= 1e25
    check_kernel(case, tensors, cotangents(case, shape), "cuda", shape.n)


def test_ties_of_usage() -> None:
    """Slots that are equal at the start are chosen as by the reference."""
    case, shape = CASES["scan"], Shape(2, 64, 8, 2, 5, T=6)
    tensors = scans.episode(case, shape, torch.float32) | {"usage": torch.ones(2, 64)}
    got, expected = (run_case(case, tensors, backend, shape.n) for backend in ("cuda", "reference"))
    torch.testing.assert_close(got, expected)


def test_derivatives_of_gradients() -> None:
    """They are the reference's, from the slots that the kernel chose."""
    case, shape = CASES["scan"], Shape(2, 9, 4, 2, 2, T=5)
    tensors = arguments(case, shape)

    def second(backend: str) -> tuple[Tensor, ...]:
        leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
        loss = sum(x.square().sum() for x in run_case(case, leaves, backend, shape.n).values())
        first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), list(leaves.values()))

    torch.testing.assert_close(second("cuda"), second("reference"), rtol=1e-3, atol=1e-4)


def test_what_is_saved() -> None:
    """Marks and cosines of every step and a checkpoint every sqrt(T) steps; without a gradient nothing."""
    case, shape = CASES["scan"], Shape(2, 9, 4, 2, 3, T=50)
    leaves = {name: x.requires_grad_() for name, x in arguments(case, shape).items()}
    saved = run_case(case, leaves, "cuda", shape.n)["reads"].grad_fn.saved_tensors[-3:]
    assert [x.shape for x in saved] == [(50, 2, 9), (6, 2, 9, 4), (50, 2, 2, 11)]
    assert ((saved[0] > 0).sum(-1) == shape.n).all()
    with torch.no_grad():
        assert not run_case(case, leaves, "cuda", shape.n)["reads"].requires_grad
