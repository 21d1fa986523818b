"""The CUDA kernels of the NTM, run thread by thread on the CPU: accurate, within bounds, equal in any thread order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mannkern.backends import cuda, reference
from mannkern.memories import checks
from mannkern.memories.ntm import functional
from mannkern.memories.ntm.ops import address, shift_sharpen, write
from mannkern.verification.accuracy import evaluate
from tests.cuda import emulated as kernels
from tests.cuda.emulated import HAS_COMPILER, Operations
from tests.helpers import CASES, SHAPES, SMALL, Shape, arguments, assert_same, check_kernel, cotangents, run_case
from tests.long_slots import LENGTHS, memory_gradient

pytestmark = [
    pytest.mark.skipif(not HAS_COMPILER, reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
    pytest.mark.usefixtures("emulated"),
]
NTM = [name for name, case in CASES.items() if case.operation.family == "ntm"]
LARGE = {
    "a_warp_a_row": Shape(2, 256, 20, 4, 1),  # the longest row that a warp works on
    "a_block_a_row": Shape(3, 257, 20, 5, 1, S=5),
    "rows_in_device_memory": Shape(2, 13000, 3, 1, 1),
    "wider_than_a_block": Shape(2, 40, 300, 2, 1),
    "more_shifts_than_slots": Shape(2, 9, 5, 2, 1, S=35),
}


@pytest.fixture(scope="module")
def library() -> Path:
    return kernels.library()


@pytest.fixture
def emulated(library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the NTM's Functions call the emulated kernels; the fixture sets the options of Operations."""

    def use(**options: bool | int) -> None:
        emulated = Operations(library, **options)
        for module in (address, shift_sharpen, write):
            for name in vars(Operations).keys() & vars(module).keys():
                monkeypatch.setattr(module, name, {"default": getattr(emulated, name)})

    monkeypatch.setattr(
        functional,
        "choose",
        lambda family, requested, *_, **__: reference.BACKEND if requested == "reference" else cuda.BACKEND,
    )
    use()
    return use


def test_example() -> None:
    """A write to one slot of one number: 3 (1 - 1/2 1) + 1/2 2 = 2.5."""
    arguments = torch.tensor([[[3.0]]]), torch.tensor([[[0.5]]]), torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]])
    assert functional.ntm_write(*arguments, backend="cuda").item() == 2.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES | LARGE)
@pytest.mark.parametrize("case", NTM)
def test_accuracy_in_any_order(case: str, shape: str, dtype: torch.dtype, emulated: Callable[..., None]) -> None:
    """Outputs and gradients are accurate, and bit-equal with threads in reverse and all episodes in one block."""
    size = (SHAPES | LARGE)[shape]
    tensors, gradients = (draw(CASES[case], size, dtype) for draw in (arguments, cotangents))
    got = check_kernel(CASES[case], tensors, gradients, "cuda")
    emulated(most_blocks=1, backwards=True)
    assert_same(evaluate(CASES[case], tensors, gradients, "cuda"), got)


@pytest.mark.parametrize("case", NTM)
def test_gradcheck(case: str) -> None:
    tensors = arguments(CASES[case], SMALL, torch.float64)

    def outputs(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(run_case(CASES[case], dict(zip(tensors, values)), "cuda").values())

    assert torch.autograd.gradcheck(outputs, [x.requires_grad_() for x in tensors.values()])


@pytest.mark.parametrize("sharpness", [1.0, 2.5, 1000.0])
@pytest.mark.parametrize("N", [128, 300])
def test_weights_of_zero_and_large_sharpness(N: int, sharpness: float) -> None:
    shape = Shape(3, N, 20, 2, 1)
    for case in (CASES["shift_sharpen"], CASES["ntm_address"]):
        tensors = arguments(case, shape)
        tensors["sharpness"] = torch.full_like(tensors["sharpness"], sharpness)
        previous = "weights" if "weights" in tensors else "previous"
        tensors[previous] = torch.zeros_like(tensors[previous])
        tensors[previous][..., :: N // 3] = 0.25
        if "gate" in tensors:
            tensors["gate"] = torch.zeros_like(tensors["gate"])
            tensors["strength"] *= 100
        check_kernel(case, tensors, cotangents(case, shape), "cuda")


def test_slots_and_keys_without_length_or_of_great_length() -> None:
    case, shape = CASES["ntm_address"], Shape(2, 40, 20, 3, 1)
    tensors = arguments(case, shape)
    tensors["memory"][0, ::3] = 0
    tensors["memory"][1, ::3] *= 1e25
    tensors["key"][0, 0] = 0
    tensors["key"][1, 1] *= 1e25
    check_kernel(case, tensors, cotangents(case, shape), "cuda")


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("shape", ["standard", "a_block_a_row", "one_column"])
def test_gradient_of_a_memory_of_long_slots(shape: str, length: float | None) -> None:
    error = memory_gradient(CASES["ntm_address"], (SHAPES | LARGE)[shape], length, "cuda")
    assert error.measured <= error.allowed


@pytest.mark.parametrize("N", [128, 300])
def test_rows_of_zeros_and_of_subnormal_numbers_and_infinite_sharpness(N: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference: a row of zeros becomes uniform, neither passes a gradient, and infinity gives the limit."""
    monkeypatch.setattr(checks, "values_known", lambda x: False)
    case, shape = CASES["shift_sharpen"], Shape(4, N, 1, 2, 1)
    tensors = arguments(case, shape)
    tensors["weights"][0], tensors["sharpness"][2] = 0, torch.inf
    tensors["weights"][1] *= 1e-38
    got = check_kernel(case, tensors, cotangents(case, shape), "cuda")
    assert got["weights"][0].unique().numel() == 1
    assert not got["grad weights"][:2].any()
    tensors["weights"][3, 1, 5] = torch.nan
    weights = run_case(case, tensors, "cuda")["weights"]
    assert torch.equal(weights.isnan(), run_case(case, tensors, "reference")["weights"].isnan())


def test_a_slot_or_key_that_is_not_finite_gives_nan_as_the_reference_does() -> None:
    case, shape = CASES["ntm_address"], Shape(2, 40, 20, 3, 1)
    for name, at in {"memory": (1, 7, 2), "key": (1, 2, 3)}.items():
        for value in (torch.inf, -torch.inf, torch.nan):
            tensors = arguments(case, shape)
            tensors[name][at] = value
            got, right = (run_case(case, tensors, backend)["weights"].isnan() for backend in ("cuda", "reference"))
            assert torch.equal(got, right)


def test_factors_of_zero() -> None:
    """Where a head erases everything, the gradient of its factor is still the product of the other factors."""
    case, shape = CASES["ntm_write"], Shape(2, 10, 6, 6, 1)
    tensors = arguments(case, shape)
    tensors["weights"][:, :2, ::2] = 1
    tensors["erase"][:, :5, ::3] = 1
    check_kernel(case, tensors, cotangents(case, shape), "cuda")
