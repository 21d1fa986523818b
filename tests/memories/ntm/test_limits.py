"""The NTM at its limits: long slots, rows of zeros, infinite strength and sharpness, numbers that are not finite."""

from __future__ import annotations

import pytest
import torch

from mannkern import NTM, functional
from mannkern.memories import checks
from tests.helpers import (
    CASES,
    SHAPES,
    Shape,
    Tensors,
    arguments,
    assert_accurate,
    check_kernel,
    cotangents,
    evaluate,
    run_case,
)
from tests.long_slots import LENGTHS, memory_gradient
from tests.memories.sequences import build, episode, loop

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
NOT_FINITE = {"memory": (1, 7, 2), "key": (1, 2, 3)}


def test_example(backend: str) -> None:
    """Nothing points to a slot, so that each of the four gets a quarter."""
    weights = functional.shift_sharpen(torch.zeros(1, 1, 4), torch.ones(1, 1, 1), torch.ones(1, 1), backend=backend)
    assert weights.tolist() == [[[0.25] * 4]]


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("shape", [SHAPES["odd"], SHAPES["many_heads"], SHAPES["one_column"]], ids=str)
def test_gradient_of_a_memory_of_long_slots(kernel: str, shape: Shape, length: float | None) -> None:
    error = memory_gradient(CASES["ntm_address"], shape, length, kernel)
    assert error.measured <= error.allowed


@pytest.mark.parametrize("length", [1e25, 1e37])
@pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
def test_gradient_of_a_memory_of_long_slots_in_an_episode(kernel: str, whole: bool, length: float) -> None:
    def gradient(backend: str, dtype: torch.dtype) -> Tensors:
        model = build(NTM, (3, 5, 20, 6, 2), torch.float32, num_write_heads=2, backend=backend).to(dtype)
        input, state = episode(model, 2, 3)
        memory = (length * torch.nn.functional.normalize(state.memory.float(), dim=-1)).to(dtype).requires_grad_()
        state = state._replace(memory=memory)
        last = (model(input, state) if whole else loop(model, input, state))[1]
        weights, g = torch.cat([last.read_weights, last.write_weights], 1), torch.Generator().manual_seed(3)
        (grad,) = torch.autograd.grad((weights * torch.randn(weights.shape, generator=g)).sum(), memory)
        return {"grad memory": grad.double() * length}

    truth = gradient("reference", torch.float64)
    assert_accurate(gradient(kernel, torch.float32), truth, gradient("reference", torch.float32))


@FLOATS
@pytest.mark.parametrize("sharpness", [1.0, 2.5, 1e30])
def test_a_row_of_zeros_becomes_uniform(backend: str, sharpness: float, dtype: torch.dtype) -> None:
    """It has no place to point to, so that every slot gets 1/N, and no gradient. The other row is as ever."""
    weights = torch.tensor([[[0.0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]], dtype=dtype, requires_grad=True)
    shift = torch.tensor([[[0.25, 0.5, 0.25]] * 2], dtype=dtype, requires_grad=True)
    sharp = torch.full((1, 2), sharpness, dtype=dtype, requires_grad=True)
    got = functional.shift_sharpen(weights, shift, sharp, backend=backend)
    torch.testing.assert_close(got[:, 0], torch.full((1, 5), 0.2, dtype=dtype))
    assert got[0, 1].argmax() == 2
    grads = torch.autograd.grad(got, (weights, shift, sharp), torch.randn(1, 2, 5, dtype=dtype))
    assert all(grad.isfinite().all() for grad in grads)
    assert all((grad[:, 0] == 0).all() for grad in grads)


@FLOATS
@pytest.mark.parametrize("sharpness", [1.0, 3.0, 200.0])
@pytest.mark.parametrize("exponent", [1.0, 1.05, 1.15])
def test_rows_of_subnormal_numbers_are_finite(
    kernel: str, exponent: float, sharpness: float, dtype: torch.dtype
) -> None:
    """Their gradient would overflow, so they pass none; those of shift and sharpness stay accurate."""
    case, shape = CASES["shift_sharpen"], SHAPES["odd"]
    tensors = arguments(case, shape, dtype)
    tensors["weights"] = tensors["weights"] * torch.finfo(dtype).smallest_normal ** exponent
    tensors["sharpness"] = torch.full_like(tensors["sharpness"], sharpness)
    got = evaluate(case, tensors, cotangents(case, shape, dtype), kernel)
    assert all(x.isfinite().all() for x in got.values())
    assert not got["grad weights"].any()
    torch.testing.assert_close(got["weights"].sum(-1), torch.ones(shape.B, shape.H, dtype=dtype), rtol=1e-6, atol=0)
    right = evaluate(case, tensors, cotangents(case, shape, dtype), "reference")
    for name in ("weights", "grad sharpness"):
        torch.testing.assert_close(got[name], right[name], rtol=2e-4, atol=1e-30)


@FLOATS
@pytest.mark.parametrize("case", ["shift_sharpen", "ntm_address"])
def test_the_limit_of_infinite_strength_and_sharpness(
    kernel: str, case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where their values are not read, as under torch.compile: all weight to the largest, shared by equal ones."""
    monkeypatch.setattr(checks, "values_known", lambda x: False)
    shape = SHAPES["odd"]
    tensors = arguments(CASES[case], shape, dtype)
    if case == "ntm_address":
        tensors["memory"][:, 1::2] = tensors["memory"][:, :1]
        tensors["gate"] = torch.ones_like(tensors["gate"])
    else:
        tensors["weights"][..., 3] = tensors["weights"][..., 9] = 0.9
    tensors["shift"] = torch.zeros_like(tensors["shift"])
    tensors["shift"][..., shape.S // 2] = 1
    tensors |= {name: torch.full_like(tensors[name], torch.inf) for name in {"strength", "sharpness"} & tensors.keys()}
    got = check_kernel(CASES[case], tensors, cotangents(CASES[case], shape, dtype), kernel)
    row = got["weights"]
    largest = row.amax(-1, keepdim=True)
    assert ((row == 0) | (row == largest)).all()
    torch.testing.assert_close(row.sum(-1), torch.ones(shape.B, shape.H, dtype=dtype))


def test_an_infinite_sharpness_is_refused(backend: str) -> None:
    for value in (torch.inf, 0.5):
        with pytest.raises(ValueError, match=f"^sharpness: got {value:g}, need at least 1 and finite"):
            functional.shift_sharpen(torch.ones(1, 1, 2), torch.ones(1, 1, 1), torch.tensor([[value]]), backend=backend)


@FLOATS
def test_what_is_not_finite_gives_nan_to_the_same_numbers_everywhere(kernel: str, dtype: torch.dtype) -> None:
    """A slot to every head, a key and a strength to its head."""
    case, shape = CASES["ntm_address"], SHAPES["odd"]
    for name, at in NOT_FINITE.items():
        for value in (torch.inf, -torch.inf, torch.nan):
            tensors = arguments(case, shape, dtype)
            tensors[name][at] = value
            got = run_case(case, tensors, kernel)["weights"].isnan()
            assert torch.equal(got, run_case(case, tensors, "reference")["weights"].isnan())
            expected = torch.zeros_like(got)
            expected[at[:1] if name == "memory" else at[:2]] = True
            assert torch.equal(got, expected)
