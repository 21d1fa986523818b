"""The CUDA kernels of LRUA's step, run thread by thread on the CPU: accurate, in bounds, equal in any thread order."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch

from mannkern.backends import cuda
from mannkern.backends.backend import Sizes
from mannkern.memories import checks
from mannkern.memories.lrua import functional
from mannkern.memories.lrua.ops import step
from mannkern.verification.accuracy import evaluate
from tests.cuda import lrua
from tests.cuda.emulated import COMPILER
from tests.helpers import CASES, Shape, arguments, assert_same, check_kernel, cotangents, run_case
from tests.long_slots import LENGTHS, memory_gradient

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
    pytest.mark.usefixtures("emulated"),
]
CASES_OF_A_STEP = ("step", "step_strength", "step_per_head")
SHAPES = {
    "standard": Shape(3, 128, 40, 4, 4),
    "standard_one_head": Shape(1, 128, 40, 1, 1),
    "one_head": Shape(3, 20, 8, 1, 1),
    "one_slot": Shape(2, 1, 4, 3, 1),
    "past_a_warp": Shape(3, 33, 16, 3, 3),
    "every_slot_least_used": Shape(1, 100, 20, 4, 100),
    "more_least_used_than_heads": Shape(1, 70, 12, 2, 7),
    "most_slots": Shape(1, 256, 40, 2, 5),
    "most_columns": Shape(1, 64, 128, 4, 40),
    "past_four_warps": Shape(1, 129, 60, 4, 4),
    "no_episodes": Shape(0, 8, 4, 2, 2),
}
Emulated = Callable[..., None]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return lrua.build()


@pytest.fixture
def emulated(library: ctypes.CDLL) -> Iterator[Emulated]:
    """Makes the step's Function call the emulated kernels; the fixture sets the options of Operations."""
    with ExitStack() as stack:

        def use(**options: bool) -> None:
            stack.enter_context(lrua.replaced(lrua.Operations(library, **options)))

        use()
        yield use


def test_example() -> None:
    """An empty memory of two slots: the gate of 0 writes half of the add to slot 1, which was used less."""
    memory, weights, usage = torch.zeros(1, 2, 4), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[2.0, 1.0]])
    key = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]])
    found = functional.lrua_step(memory, weights, usage, key, key, torch.zeros(1, 1), decay=0.5, backend="cuda")
    assert found.memory[0, :, 0].tolist() == [1, 1]
    assert found.read_weights.flatten().tolist() == [0.5, 0.5]
    assert found.read.flatten().tolist() == [1, 0, 0, 0]
    assert found.usage.flatten().tolist() == [2, 1.5]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES_OF_A_STEP)
def test_accuracy_in_any_order(case: str, shape: str, emulated: Emulated) -> None:
    """Outputs and gradients are accurate, and bit-equal with threads in reverse."""
    size = SHAPES[shape]
    tensors, gradients = arguments(CASES[case], size), cotangents(CASES[case], size)
    got = check_kernel(CASES[case], tensors, gradients, "cuda", size.n)
    emulated(backwards=True)
    assert_same(evaluate(CASES[case], tensors, gradients, "cuda", size.n), got)


@pytest.mark.parametrize("used", ["memory", "read", "read_weights", "usage", "write_weights"])
def test_gradients_of_one_result(used: str) -> None:
    """The loss does not use the other results, whose gradients do not reach the kernel."""
    case, shape = CASES["step_strength"], Shape(2, 40, 8, 2, 2)
    check_kernel(case, arguments(case, shape), {used: cotangents(case, shape)[used]}, "cuda", shape.n)


def test_slots_and_keys_without_length_or_of_great_length() -> None:
    case, shape = CASES["step_strength"], Shape(2, 128, 40, 4, 4)
    tensors = arguments(case, shape)
    tensors["memory"][0, ::3] = 0
    tensors["read_weights"][0, :, ::3] = 0
    tensors["memory"][1, ::3] *= 1e25
    tensors["key"][0, 0] = 0
    tensors["key"][1, 1] *= 1e25
    check_kernel(case, tensors, cotangents(case, shape), "cuda", shape.n)


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_gradient_of_a_memory_of_long_slots(length: float | None) -> None:
    error = memory_gradient(CASES["step_strength"], Shape(2, 128, 40, 4, 4), length, "cuda", 4)
    assert error.measured <= error.allowed


def test_infinite_strength_gives_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All weight to the largest cosine, shared by equal ones."""
    monkeypatch.setattr(checks, "values_known", lambda x: False)
    case, shape = CASES["step_strength"], Shape(2, 33, 16, 3, 3)
    tensors = arguments(case, shape)
    tensors["memory"][:, 1::2], tensors["read_weights"][..., 1::2] = tensors["memory"][:, :1], 1 / 33
    tensors["strength"] = torch.full_like(tensors["strength"], torch.inf)
    got, right = (evaluate(case, tensors, cotangents(case, shape), backend, 3) for backend in ("cuda", "reference"))
    assert all(x.isfinite().all() for x in got.values())
    torch.testing.assert_close(got["read_weights"], right["read_weights"])


def test_what_is_not_finite_gives_nan_as_the_reference_does() -> None:
    case, shape = CASES["step_strength"], Shape(2, 33, 16, 3, 3)
    for name, at in {"memory": (1, 7, 2), "key": (1, 2, 3), "add": (1, 0, 2), "usage": (1, 4)}.items():
        for value in (torch.inf, -torch.inf, torch.nan):
            tensors = arguments(case, shape)
            tensors[name][at] = value
            got, right = (run_case(case, tensors, backend, 3) for backend in ("cuda", "reference"))
            assert all(torch.equal(got[result].isnan(), x.isnan()) for result, x in right.items()), name


def test_least_used_slots_with_ties_infinities_and_nan() -> None:
    """Ties go to the lower index, -0 equals 0, and NaN counts as the largest."""
    g = torch.Generator().manual_seed(0)
    for N, n in ((128, 4), (70, 9), (33, 33), (256, 40)):
        usage = torch.randint(3, (4, N), generator=g).float() - 1
        usage[0, ::5] = -0.0
        usage[1, ::7] = float("nan")
        usage[2, ::6], usage[2, 1::6] = float("inf"), float("-inf")
        usage[3] = float("nan")
        asked = arguments(CASES["step"], Shape(4, N, 8, 2, n)) | {"usage": usage}
        *_, slots = step.lrua_step["default"](*asked.values(), None, n, False, 0.99)
        assert torch.equal(slots, torch.sort(usage, stable=True).indices[:, :n])


def test_equal_slots_stay_equal() -> None:
    """Slots of equal content and history stay equal to the bit over steps, wherever they lie."""
    few, N, R = arguments(CASES["step"], Shape(1, 3, 40, 4, 4)), 128, 4
    kind = torch.arange(N) % 3
    memory, weights, usage = few["memory"][:, kind], few["read_weights"][..., kind], few["usage"][:, kind]
    for t in range(4):
        asked = arguments(CASES["step_strength"], Shape(1, 3, 40, 4, 4), seed=t)
        asked = {k: x for k, x in asked.items() if k in ("key", "add", "gate", "strength")}
        slots = usage.sort(dim=-1, stable=True).indices[:, :R]
        rank = torch.zeros_like(usage).scatter(1, slots, torch.arange(1.0, R + 1).expand(1, R))
        before = torch.cat([memory, weights.mT, usage.unsqueeze(-1), rank.unsqueeze(-1)], -1)[0]
        memory, _, weights, usage, write_weights = functional.lrua_step(memory, weights, usage, **asked, backend="cuda")
        after = torch.cat([memory, weights.mT, usage.unsqueeze(-1), write_weights.mT], -1)[0]
        _, group = torch.unique(before, dim=0, return_inverse=True)
        first = torch.stack([(group == g).nonzero()[0, 0] for g in range(int(group.max()) + 1)])[group]
        assert len(group.unique()) < N
        assert torch.equal(after, after[first]), t


def test_slots_of_the_same_number_written_twice() -> None:
    """The same usage everywhere: the first n slots are written, as by the reference."""
    case, shape = CASES["step"], Shape(2, 64, 8, 2, 5)
    tensors = arguments(case, shape) | {"usage": torch.ones(2, 64)}
    got, expected = (run_case(case, tensors, backend, shape.n) for backend in ("cuda", "reference"))
    torch.testing.assert_close(got, expected)


def test_sizes_that_the_kernels_take(library: ctypes.CDLL) -> None:
    """Python's choice and the launcher agree."""
    limit, gpu = cuda.BACKEND.operations["lrua_step"], torch.device("cuda")
    for N in (1, 31, 32, 64, 65, 80, 128, 129, 160, 256, 257):
        for W in (1, 4, 6, 40, 64, 80, 84, 128, 132):
            for R in (1, 4, 5):
                takes = library.takes(*(ctypes.c_int64(size) for size in (N, W, R)))
                assert bool(takes) == (not limit(Sizes(N, W, R), torch.float32, gpu)), (N, W, R)
    assert "float32" in limit(Sizes(4, 4, 1), torch.float64, gpu)
