"""The step's kernels: a step by hand, and slots that must stay equal wherever they lie. Accuracy: test_accuracy.py."""

from __future__ import annotations

import math

import pytest
import torch

from mannkern import functional
from mannkern.triton import tiling
from tests.helpers import CASES, Shape, arguments, run_case, same
from tests.triton.table import first_tiled

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example() -> None:
    """One head, two slots; slot 1 is the least used, and the gate's sigmoid is 1/2, so both slots get w_w = 1/2.

    Slot 1 is set to zero; a = (2, 0) then makes the slots (2, 4) + (1, 0) = (3, 4) and (1, 0). By key (1, 0) and
    strength 5 ln 2 their weights are 2^3 / 40 and 2^5 / 40, and the usage is u / 2 + w_r + w_w.
    """
    step = functional.lrua_step(
        memory=torch.tensor([[[2.0, 4], [7, 7]]]),
        read_weights=torch.tensor([[[1.0, 0]]]),
        usage=torch.tensor([[1.0, 0]]),
        key=torch.tensor([[[1.0, 0]]]),
        add=torch.tensor([[[2.0, 0]]]),
        gate=torch.zeros(1, 1),
        strength=torch.full((1, 1), 5 * math.log(2)),
        decay=0.5,
        backend="triton",
    )
    torch.testing.assert_close(step.write_weights, torch.tensor([[[0.5, 0.5]]]))
    torch.testing.assert_close(step.memory, torch.tensor([[[3.0, 4], [1, 0]]]))
    torch.testing.assert_close(step.read_weights, torch.tensor([[[0.2, 0.8]]]))
    torch.testing.assert_close(step.read, torch.tensor([[[1.4, 0.8]]]))
    torch.testing.assert_close(step.usage, torch.tensor([[1.2, 1.3]]))


@pytest.mark.parametrize("case", ["step_strength", "step_per_head"])
def test_equal_slots_of_different_tiles_stay_equal(case: str) -> None:
    """Three kinds of slots in turn: slots of one kind stay bit-equal, except where one of them is least used."""
    shape = Shape(1, first_tiled(40) + 3, 40, 2, 4)
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).tiles > 2  # and as 3 divides no BN, kinds shift
    few = arguments(CASES[case], shape._replace(N=3, n=3))
    kind = torch.arange(shape.N) % 3
    state = few["memory"][:, kind], few["read_weights"][..., kind], few["usage"][:, kind]
    marked: set[int] = set()
    for t in range(2):
        marked |= set(state[2][0].argsort(stable=True)[: shape.n].tolist())
        interface = ("key", "add", "gate", "strength")
        inputs = {k: x for k, x in arguments(CASES[case], shape, seed=t).items() if k in interface}
        tensors = dict(zip(("memory", "read_weights", "usage"), state)) | inputs
        step = run_case(CASES[case], tensors, "triton", shape.n)
        state = step["memory"], step["read_weights"], step["usage"]
        for i in range(3):
            alike = [slot for slot in range(i, shape.N, 3) if slot not in marked]
            for x in (step["memory"].mT, step["read_weights"], step["usage"], step["write_weights"]):
                assert same(x[..., alike], x[..., alike[:1]].expand_as(x[..., alike]))


def test_permuting_slots_across_tiles() -> None:
    """Memory and write weights move with their slots, bit for bit; what is summed over slots agrees to rounding."""
    case, shape = CASES["step_strength"], Shape(1, first_tiled(40) + 20, 40, 2, 4)
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).tiles > 2
    order = torch.randperm(shape.N, generator=torch.Generator().manual_seed(3))
    tensors = arguments(case, shape)
    permuted = tensors | {
        "memory": tensors["memory"][:, order],
        "read_weights": tensors["read_weights"][..., order],
        "usage": tensors["usage"][:, order],
    }
    expected, got = (run_case(case, t, "triton", shape.n) for t in (tensors, permuted))
    assert same(got["memory"], expected["memory"][:, order])
    assert same(got["write_weights"], expected["write_weights"][..., order])
    for name in ("read", "read_weights", "usage"):
        x = expected[name] if name == "read" else expected[name][..., order]
        torch.testing.assert_close(got[name], x, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("N", [16, 700], ids=["a program", "tiles"])
def test_slots_of_one_column_that_have_one_sign_tie(dtype: torch.dtype, N: int) -> None:
    """Their cosines are 1 and -1, so that rounding chooses no slot of equal ones, whatever the strength."""
    torch.manual_seed(0)
    memory, key = torch.randn(2, N, 1, dtype=dtype), torch.randn(2, 3, 1, dtype=dtype)
    memory[0, :3, 0] = torch.tensor([0.0, -0.0, 1e-9])  # no sign: their norm is below eps
    for strength in (1.0, 50.0, 1e8):
        strengths = torch.full((2, 3), strength, dtype=dtype)
        got, expected = (
            functional.cosine_read(memory, key, strengths, backend=backend)[1] for backend in ("triton", "reference")
        )
        for b in range(2):
            for sign in (1, -1):
                assert all(len(w.unique()) == 1 for w in got[b][:, memory[b, :, 0] * sign > 1e-6])
        torch.testing.assert_close(got, expected, rtol=1e-6 if dtype == torch.float32 else 1e-14, atol=0)
