"""Properties of the NTM for any numbers, on every backend: distributions, identities, no special slot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mannkern import functional
from mannkern.backends import native
from tests.helpers import CASES, CPP, PLAIN, SHAPES, Shape, arguments, run_case


def test_example(backend: str) -> None:
    """A shift by one moves every weight to the next slot, and the last to the first; their sum stays 1."""
    shift, sharpness = torch.tensor([[[0.0, 0, 1]]]), torch.ones(1, 1)
    weights = functional.shift_sharpen(torch.tensor([[[0.5, 0.3, 0.2]]]), shift, sharpness, backend=backend)
    torch.testing.assert_close(weights, torch.tensor([[[0.2, 0.5, 0.3]]]))


pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def weights_of(case: str) -> str:
    """The argument that holds weights."""
    return "previous" if case == "ntm_address" else "weights"


@pytest.mark.parametrize(
    ("backend", "isa"), [PLAIN, CPP[-1], *(pytest.param(*k, marks=pytest.mark.slow) for k in CPP[:-1])]
)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    B=st.integers(1, 3),
    N=st.integers(1, 40),
    H=st.integers(1, 11),
    reach=st.integers(0, 6),
    seed=st.integers(0, 2**31),
    power=st.floats(0, 3),
    zeros=st.integers(0, 39),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_weights_are_distributions(
    backend: str,
    isa: str,
    B: int,
    N: int,
    H: int,
    reach: int,
    seed: int,
    power: float,
    zeros: int,
    dtype: torch.dtype,
) -> None:
    """They sum to 1, none is negative, and the largest before is the largest after sharpening alone."""
    shape = Shape(B, N, 3, H, 1, S=2 * reach + 1)
    before = native.isa()
    native.set_isa(isa)
    for name in ("shift_sharpen", "ntm_address"):
        tensors = arguments(CASES[name], shape, dtype, seed)
        row = tensors[weights_of(name)]
        row[..., : min(zeros, N - 1)] = 0
        tensors["sharpness"] = torch.full_like(tensors["sharpness"], 10.0**power)
        weights = run_case(CASES[name], tensors, backend)["weights"]
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, dtype=dtype), rtol=4e-6, atol=0)
        if name == "shift_sharpen":
            stay = torch.zeros_like(tensors["shift"])
            stay[..., reach] = 1
            still = functional.shift_sharpen(row, stay, tensors["sharpness"], backend=backend)
            assert torch.equal(still.argmax(-1), row.argmax(-1))
    native.set_isa(before)


@FLOATS
def test_sharpness_1_and_no_shift_is_the_identity(backend: str, dtype: torch.dtype) -> None:
    tensors = arguments(CASES["shift_sharpen"], SHAPES["odd"], dtype)
    tensors["weights"] /= tensors["weights"].sum(-1, keepdim=True)
    stay = torch.zeros_like(tensors["shift"])
    stay[..., 2] = 1
    got = functional.shift_sharpen(tensors["weights"], stay, torch.ones_like(tensors["sharpness"]), backend=backend)
    torch.testing.assert_close(got, tensors["weights"], rtol=4 * torch.finfo(dtype).eps, atol=0)
    memory = arguments(CASES["ntm_write"], SHAPES["odd"], dtype)
    nothing = memory | {"weights": torch.zeros_like(memory["weights"])}
    assert torch.equal(run_case(CASES["ntm_write"], nothing, backend)["memory"], memory["memory"])


@FLOATS
@pytest.mark.parametrize("N", [5, 8, 33, 130])
@pytest.mark.parametrize("case", ["shift_sharpen", "ntm_address"])
def test_turning_the_memory_turns_the_weights(backend: str, case: str, N: int, dtype: torch.dtype) -> None:
    """No place is special, nor the ends of a row: results are the same to the rounding of a sum."""
    tensors = arguments(CASES[case], Shape(2, N, 3, 3, 1, S=5), dtype)
    expected = run_case(CASES[case], tensors, backend)["weights"]
    turned = dict(tensors)
    for name, axis in {weights_of(case): -1, "memory": 1}.items():
        if name in tensors:
            turned[name] = tensors[name].roll(2, axis)
    got = run_case(CASES[case], turned, backend)["weights"].roll(-2, -1)
    torch.testing.assert_close(got, expected, rtol=1e3 * torch.finfo(dtype).eps, atol=0)
