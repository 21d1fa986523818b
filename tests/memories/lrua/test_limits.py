"""LRUA at its limits: long slots, infinite strength, numbers that are not finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mannkern import MANN, functional
from mannkern.memories import checks
from tests.helpers import CASES, SHAPES, Shape, arguments, assert_accurate, cotangents, evaluate, on_kernels, run_case
from tests.interpreter import PATHS, cell, interpreted, on_shapes
from tests.long_slots import LENGTHS, memory_gradient
from tests.memories.sequences import build, episode, loop

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

SIZES = {"standard": SHAPES["standard"]._replace(T=2), "odd": SHAPES["odd"], "one_column": SHAPES["one_column"]}


def test_example(backend: str) -> None:
    """Slots (L, 0) and (0, L), key (1, 1), equal weights: a turn by 1 changes a weight by 1/4 of sqrt(1/2)."""
    for length in (1.0, 1e25):
        memory = torch.tensor([[[length, 0], [0, length]]], requires_grad=True)
        _, weights = functional.cosine_read(memory, torch.ones(1, 1, 2), backend=backend)
        weights[0, 0, 0].backward()
        turn = 0.25 * 0.5**0.5 / length
        torch.testing.assert_close(memory.grad, torch.tensor([[[0, turn], [-turn, 0]]]), rtol=1e-5, atol=1e-6 * turn)


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES)
@on_kernels(["read_strength", "step_strength", "step_per_head", "scan"], interpreted=False)
def test_gradient_of_the_memory(case: str, shape: Shape, length: float | None, kernel: str) -> None:
    error = memory_gradient(CASES[case], shape, length, kernel, min(shape.n, shape.N))
    assert error.measured <= error.allowed


@interpreted
@pytest.mark.parametrize("where", PATHS)
def test_gradient_of_the_memory_in_triton(where: str) -> None:
    error = memory_gradient(CASES["read_strength"], cell("read_strength", where).shape, None, "triton")
    assert error.measured <= error.allowed


@pytest.mark.parametrize("length", [1e25, 1e37])
@pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
def test_gradient_of_the_memory_in_an_episode(kernel: str, whole: bool, length: float) -> None:
    def gradient(backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
        model = build(MANN, (3, 5, 20, 6, 4), torch.float32, key_strength=True, backend=backend).to(dtype)
        input, state = episode(model, 2, 3)
        memory = (length * torch.nn.functional.normalize(state.memory.float(), dim=-1)).to(dtype).requires_grad_()
        state = state._replace(memory=memory)
        weights = (model(input, state) if whole else loop(model, input, state))[1].read_weights
        g = torch.Generator().manual_seed(3)
        (grad,) = torch.autograd.grad((weights * torch.randn(weights.shape, generator=g)).sum(), memory)
        return {"grad memory": grad.double() * length}

    truth = gradient("reference", torch.float64)
    assert_accurate(gradient(kernel, torch.float32), truth, gradient("reference", torch.float32))


@on_shapes(["read_strength", "scan_strength_per_head"], {"odd": SHAPES["odd"]}, ["whole"])
def test_the_limit_of_infinite_strength(case: str, shape: Shape, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its values are not read, as under torch.compile: all weight to the largest cosine, shared by equal ones."""
    monkeypatch.setattr(checks, "values_known", lambda x: False)
    tensors = arguments(CASES[case], shape)
    tensors["memory"][:, 1::2] = tensors["memory"][:, :1]
    if "read_weights" in tensors:
        tensors["read_weights"][..., 1::2] = tensors["read_weights"][..., :1]
    strength = next(name for name in tensors if name.startswith("strength"))
    tensors[strength] = torch.full_like(tensors[strength], torch.inf)
    got = evaluate(CASES[case], tensors, cotangents(CASES[case], shape), kernel, shape.n)
    assert all(x.isfinite().all() for x in got.values())
    row = got["read_weights"]
    assert ((row == 0) | (row == row.amax(-1, keepdim=True))).all()
    torch.testing.assert_close(row.sum(-1), torch.ones(shape.B, shape.R))
    torch.testing.assert_close(row, run_case(CASES[case], tensors, "reference", shape.n)["read_weights"])


NOT_FINITE = {"memory": (-1, 7, 2), "key": (-1, -1, 3), "keys": (0, -1, -1, 3), "add": (-1, 0, 2), "usage": (-1, 4)}


@pytest.mark.parametrize("value", [torch.inf, torch.nan], ids=str)
@on_shapes(["read_strength", "step_strength"], {"odd": SHAPES["odd"]})
def test_what_is_not_finite_gives_nan_to_the_same_numbers_everywhere(
    case: str, shape: Shape, kernel: str, value: float
) -> None:
    """A slot to every head, a key to its head, and no other episode."""
    for name, at in NOT_FINITE.items():
        tensors = arguments(CASES[case], shape)
        if name in tensors:
            tensors[name][at] = value
            got = run_case(CASES[case], tensors, kernel, shape.n)
            for result, right in run_case(CASES[case], tensors, "reference", shape.n).items():
                assert torch.equal(got[result].isnan(), right.isnan()), (name, result)
            if name == "memory":
                assert got["read_weights"][-1].isnan().all() or "usage" in tensors
                assert got["read_weights"][:-1].isfinite().all()


@pytest.mark.parametrize("width", [5, 10, 13, 19, 25, 37, 49, 50, 51])
def test_an_infinite_weight_gives_what_the_reference_gives(kernel: str, width: int) -> None:
    """Also where a vector overlaps the one before, to which it adds 0: 0 times infinity is NaN."""
    g = torch.Generator().manual_seed(0)
    memory, add, slots = torch.randn(1, 2, width, generator=g), torch.randn(1, 3, width, generator=g), torch.tensor([0])
    weights = torch.tensor([[[torch.inf, 0.5], [1, 0], [0, 0.5]]])
    for dtype in (torch.float32, torch.float64):
        tensors = [x.to(dtype) for x in (memory, weights, add)]
        right = functional.additive_write(*tensors, slots, backend="reference")
        torch.testing.assert_close(functional.additive_write(*tensors, slots, backend=kernel), right)


def test_an_infinite_strength_is_refused(backend: str) -> None:
    for value in (torch.inf, -1.0):
        with pytest.raises(ValueError, match=f"^strength: got {value:g}, need at least 0 and finite"):
            functional.cosine_read(torch.ones(1, 2, 3), torch.ones(1, 1, 3), torch.tensor([[value]]), backend=backend)
