"""The NTM's kernels on extreme values: sharpness, zeros, subnormal numbers, few slots, many heads, full erasure."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.helpers import (
    CASES,
    SHAPES,
    Shape,
    Tensors,
    arguments,
    assert_same,
    check_kernel,
    cotangents,
    evaluate,
    on_kernels,
    run_case,
    strided,
)


def test_example(kernel: str) -> None:
    """Weights 2/3 and 1/3 are as 4 to 1 at sharpness 2. At 1000 they are as 2^1000 to 1, which float32 cannot hold."""
    rows, stay = torch.tensor([[[2 / 3, 1 / 3]] * 2]), torch.ones(1, 2, 1)
    weights = functional.shift_sharpen(rows, stay, torch.tensor([[2.0, 1000.0]]), backend=kernel)
    torch.testing.assert_close(weights, torch.tensor([[[0.8, 0.2], [1.0, 0.0]]]))


pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
ADDRESSING = pytest.mark.parametrize("case", ["shift_sharpen", "ntm_address"])
ALL = ("shift_sharpen", "ntm_address", "ntm_write")

SIZES = {
    "one_slot": Shape(2, 1, 3, 2, 1, S=3),
    "one_slot_many_shifts": Shape(2, 1, 3, 2, 1, S=9),
    "two_slots": Shape(2, 2, 3, 2, 1, S=7),
    "a_step_around": Shape(2, 4, 3, 3, 1, S=5),
    "two_steps_around": Shape(1, 5, 3, 3, 1, S=21),
    "as_many_shifts_as_slots": Shape(2, 15, 3, 2, 1, S=15),
    "one_shift": Shape(2, 40, 3, 2, 1, S=1),
    "eleven_heads": Shape(2, 31, 6, 11, 1),
    "long": Shape(8, 1000, 4, 2, 1, S=7),
    "very_wide": Shape(1, 9, 300, 2, 1),
}


def check(case: str, tensors: Tensors, shape: Shape, kernel: str, dtype: torch.dtype = torch.float32) -> Tensors:
    got = check_kernel(CASES[case], tensors, cotangents(CASES[case], shape, dtype), kernel)
    assert all(x.isfinite().all() for x in got.values())
    return got


@FLOATS
@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("case", ALL)
def test_sizes(kernel: str, case: str, shape: Shape, dtype: torch.dtype) -> None:
    check(case, arguments(CASES[case], shape, dtype), shape, kernel, dtype)


@FLOATS
@pytest.mark.parametrize("sharpness", [1.0, 1.0001, 1.5, 2.0, 10.0])
@ADDRESSING
def test_sharpness(kernel: str, case: str, sharpness: float, dtype: torch.dtype) -> None:
    shape = SHAPES["odd"]
    tensors = arguments(CASES[case], shape, dtype)
    check(case, tensors | {"sharpness": torch.full_like(tensors["sharpness"], sharpness)}, shape, kernel, dtype)


@FLOATS
@pytest.mark.parametrize("sharpness", [50.0, 300.0, 1000.0])
def test_sharpness_of_exact_weights(kernel: str, sharpness: float, dtype: torch.dtype) -> None:
    """Without a shift nothing is rounded before the power, which multiplies errors: only its own error is measured."""
    shape = SHAPES["past_a_block"]
    tensors = arguments(CASES["shift_sharpen"], shape, dtype)
    tensors["weights"] = (0.5 + tensors["weights"] / tensors["weights"].amax(-1, keepdim=True)) / shape.N
    tensors |= {"sharpness": torch.full_like(tensors["sharpness"], sharpness)}
    check("shift_sharpen", tensors | {"shift": torch.ones_like(tensors["shift"])}, shape, kernel, dtype)


@FLOATS
@pytest.mark.parametrize("sharpness", [1.0, 1.5, 1000.0])
@pytest.mark.parametrize("N", [8, 33, 128])
def test_near_ties_at_a_thousandfold_sharpness(kernel: str, N: int, sharpness: float, dtype: torch.dtype) -> None:
    """Weights a part in thousands from each other, so that many stay and each depends on all of log w_s."""
    case, shape = CASES["shift_sharpen"], Shape(3, N, 1, 2, 1)
    tensors = arguments(case, shape, dtype)
    near = (1 + 3e-3 * torch.randn(3, 2, N, generator=torch.Generator().manual_seed(5)).to(dtype)) / N
    tensors |= {"weights": near, "sharpness": torch.full_like(tensors["sharpness"], sharpness)}
    got = check("shift_sharpen", tensors, shape, kernel, dtype)
    assert (got["weights"] > 0.01 / N).sum() > N


def one_hot(x: Tensor) -> Tensor:
    results = torch.zeros_like(x)
    results[..., x.shape[-1] // 3] = 1
    return results


def sparse(x: Tensor) -> Tensor:
    """A third of the weights, with runs of zeros between."""
    return torch.where(torch.arange(x.shape[-1]) % 9 < 3, x, 0)


def falling(x: Tensor) -> Tensor:
    """From 1 to under the smallest normal number, to the smallest there is, to 0."""
    smallest = torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps
    exponents = torch.linspace(0, 1.02 * math.log2(smallest), x.shape[-1], dtype=torch.float64)
    return torch.exp2(exponents).to(x.dtype).expand_as(x).contiguous()


def small(x: Tensor) -> Tensor:
    """All of them so small that a square is 0."""
    return x * torch.finfo(x.dtype).smallest_normal ** 0.55


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "one_hot": one_hot,
    "sparse": sparse,
    "falling": falling,
    "small": small,
}


@FLOATS
@pytest.mark.parametrize("sharpness", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_with_zeros_and_subnormal_numbers(
    kernel: str, row: Callable[[Tensor], Tensor], sharpness: float, dtype: torch.dtype
) -> None:
    shape = SHAPES["odd"]
    tensors = arguments(CASES["shift_sharpen"], shape, dtype)
    tensors |= {
        "weights": row(tensors["weights"]),
        "sharpness": torch.full_like(tensors["sharpness"], sharpness),
    }
    check("shift_sharpen", tensors, shape, kernel, dtype)
    tensors["sharpness"] *= 1000 / sharpness
    got = evaluate(CASES["shift_sharpen"], tensors, cotangents(CASES["shift_sharpen"], shape, dtype), kernel)
    assert all(x.isfinite().all() for x in got.values())
    torch.testing.assert_close(got["weights"].sum(-1), torch.ones(shape.B, shape.H, dtype=dtype), rtol=1e-6, atol=0)


@FLOATS
@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("strength", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_heads_at_their_ends(kernel: str, sharpness: float, strength: float, gate: float, dtype: torch.dtype) -> None:
    """Strength 100 leaves content weights under the smallest number; gates choose between them and one-hot weights."""
    shape = SHAPES["odd"]
    tensors = arguments(CASES["ntm_address"], shape, dtype)
    tensors["previous"] = one_hot(tensors["previous"])
    for name, value in {"sharpness": sharpness, "strength": strength, "gate": gate}.items():
        tensors[name] = torch.full_like(tensors[name], value)
    check("ntm_address", tensors, shape, kernel, dtype)


@FLOATS
@pytest.mark.parametrize("factor", [0.0, 1e-30, 4e-9, 1e15, 1e30])
@pytest.mark.parametrize("names", [("memory",), ("key",), ("memory", "key")], ids="+".join)
def test_memories_and_keys_of_any_size(kernel: str, names: tuple[str, ...], factor: float, dtype: torch.dtype) -> None:
    shape = SHAPES["odd"]
    tensors = arguments(CASES["ntm_address"], shape, dtype)
    tensors |= {name: factor * tensors[name] for name in names}
    check("ntm_address", tensors, shape, kernel, dtype)


@FLOATS
@pytest.mark.parametrize("heads", [1, 2, 3, 11])
@pytest.mark.parametrize("erase", [0.0, 0.5, 1.0])
def test_full_erasure(kernel: str, erase: float, heads: int, dtype: torch.dtype) -> None:
    """Weight 1 of every head at one slot, of two at another: with erase 1 no gradient may divide by a factor."""
    shape = Shape(3, 19, 7, heads, 1)
    tensors = arguments(CASES["ntm_write"], shape, dtype)
    tensors["weights"][..., 4] = 1
    tensors["weights"][:, :2, 17] = 1
    tensors["weights"][..., 9] = 0
    tensors["erase"] = torch.full_like(tensors["erase"], erase)
    tensors["erase"][:, -1] = tensors["erase"][:, -1] * torch.linspace(0, 1, shape.W).to(dtype)
    got = check("ntm_write", tensors, shape, kernel, dtype)
    assert torch.equal(got["memory"][:, 9], tensors["memory"][:, 9])  # unwritten to the bit


@pytest.mark.parametrize(
    ("case", "name"),
    [
        *(("shift_sharpen", name) for name in ("weights", "shift", "sharpness")),
        *(("ntm_address", name) for name in ("previous", "key", "strength", "gate", "shift", "sharpness")),
        *(("ntm_write", name) for name in ("weights", "erase", "add")),
    ],
)
def test_each_argument_as_a_view(kernel: str, case: str, name: str) -> None:
    """Views of a wider tensor and with strides, as the slices of a cell's interface vector are."""
    shape = SHAPES["more_heads_than_slots"]
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, kernel)
    wide = torch.cat([torch.full_like(tensors[name], torch.nan), tensors[name]], -1)
    sliced = wide[..., tensors[name].shape[-1] :]
    assert_same(evaluate(CASES[case], tensors | {name: sliced}, gradients, kernel), expected)
    assert_same(evaluate(CASES[case], tensors | {name: strided(tensors[name])}, gradients, kernel), expected)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", ALL)
def test_half_precision_is_float32(backend: str, case: str, half: torch.dtype) -> None:
    """Results are bit-equal to those of float32, because half precision is widened first."""
    narrow = arguments(CASES[case], SHAPES["odd"], half)
    wide = {name: x.float() for name, x in narrow.items()}
    assert_same(run_case(CASES[case], narrow, backend), run_case(CASES[case], wide, backend))


@on_kernels(ALL)
def test_threads_and_heads_change_nothing(kernel: str, case: str, threads: Callable[[int], None]) -> None:
    """A thread has many rows, and a head alone gets the same results as among others."""
    shape = Shape(40, 128, 20, 11, 1)
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(evaluate(CASES[case], tensors, gradients, kernel))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])
    if case != "ntm_write":
        alone = {name: x if name == "memory" else x[:, 4:5] for name, x in tensors.items()}
        assert torch.equal(run_case(CASES[case], alone, kernel)["weights"], results[0]["weights"][:, 4:5])
