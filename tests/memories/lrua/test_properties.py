"""Properties of LRUA for any numbers, on every backend: sums, ties, equal slots, permutations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mannkern import functional
from mannkern.backends import native
from tests.helpers import (
    CASES,
    CPP,
    PLAIN,
    SHAPES,
    Shape,
    arguments,
    convert,
    cotangents,
    evaluate,
    is_interpreted,
    kernels_of,
    parameter,
    relative_errors,
    run_case,
    same,
    strided,
)
from tests.interpreter import interpreted, on_shapes

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example(backend: str) -> None:
    """Of usages 0.5, 0.2, 0.2 the tie goes to slot 1. It is set to zero and, the gate being closed, written alone."""
    usage = torch.tensor([[0.5, 0.2, 0.2]])
    assert functional.least_used_mask(usage, 1, backend=backend).tolist() == [[0, 1, 0]]
    state = torch.eye(3).unsqueeze(0), torch.tensor([[[1.0, 0, 0]]]), usage
    step = functional.lrua_step(
        *state, torch.ones(1, 1, 3), torch.ones(1, 1, 3), torch.full((1, 1), -1e3), backend=backend
    )
    assert step.write_weights.tolist() == [[[0, 1, 0]]]
    assert step.memory.tolist() == [[[1, 0, 0], [1, 1, 1], [0, 0, 1]]]


shapes = st.builds(Shape, *(st.integers(1, most) for most in (3, 40, 20, 6)), n=st.just(1)).flatmap(
    lambda shape: st.builds(shape._replace, n=st.integers(1, shape.N))
)


STEPS = {
    "shape": shapes,
    "case": st.sampled_from(["step", "step_strength", "step_per_head"]),
    "seed": st.integers(0, 2**31),
    "power": st.integers(-20, 20),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
}


@pytest.mark.parametrize(
    ("backend", "isa"), [PLAIN, CPP[-1], *(pytest.param(*k, marks=pytest.mark.slow) for k in CPP[:-1])]
)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(**STEPS)
def test_weights_of_a_step(
    backend: str, isa: str, shape: Shape, case: str, seed: int, power: int, dtype: torch.dtype
) -> None:
    check_weights(backend, isa, shape, case, seed, power, dtype)


@interpreted
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(**STEPS)
def test_weights_of_an_interpreted_step(shape: Shape, case: str, seed: int, power: int, dtype: torch.dtype) -> None:
    check_weights("triton", native.isa(), shape, case, seed, power, dtype)


def check_weights(backend: str, isa: str, shape: Shape, case: str, seed: int, power: int, dtype: torch.dtype) -> None:
    """Rows of read and write weights are distributions, n marked slots are written, the marks are those of the mask."""
    tensors = arguments(CASES[case], shape, dtype, seed)
    tensors |= {name: tensors[name] * 10.0**power for name in ("memory", "add")}
    tensors["gate"] = torch.full_like(tensors["gate"], -1e3)  # closed: the write weights are the marks
    n = min(shape.n, shape.R) if case == "step_per_head" else shape.n
    before = native.isa()
    native.set_isa(isa)
    step = run_case(CASES[case], tensors, backend, n)
    mask = functional.least_used_mask(tensors["usage"], n, backend=backend)
    native.set_isa(before)
    assert (step["read_weights"] >= 0).all()
    one = torch.ones((), dtype=dtype)
    torch.testing.assert_close(step["read_weights"].sum(-1), one.expand(shape.B, shape.R), rtol=2e-6, atol=0)
    assert (mask.sum(-1) == n).all()
    assert ((mask == 0) | (mask == 1)).all()
    marks = step["write_weights"].amax(1) if case == "step_per_head" else step["write_weights"]
    assert same(marks, mask if case == "step_per_head" else mask.unsqueeze(1).expand_as(marks))
    chosen, others = (tensors["usage"].masked_fill(mask != value, fill) for value, fill in ((1, -1.0), (0, torch.inf)))
    assert (chosen.amax(-1) < others.amin(-1)).all()
    total = tensors["usage"] * CASES[case].options.get("decay", 0.99)
    total = total + step["read_weights"].sum(1) + step["write_weights"].sum(1)
    torch.testing.assert_close(step["usage"], total, rtol=2e-6, atol=2e-6)


def fresh_memory(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The state of an episode's start: every slot is 1e-6, read weights and usage are 1 at slot 0."""
    weights = torch.zeros(shape.B, shape.R, shape.N, dtype=dtype)
    weights[:, :, 0] = 1
    return torch.full((shape.B, shape.N, shape.W), 1e-6, dtype=dtype), weights, weights[:, 0].clone()


def three_kinds(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A state of three kinds of slots in turn; slots of a kind are equal."""
    few = arguments(CASES["step"], shape._replace(N=3), dtype)
    kind = torch.arange(shape.N) % 3
    return few["memory"][:, kind], few["read_weights"][..., kind], few["usage"][:, kind]


def transposed(state: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    return lambda shape, dtype: tuple(strided(x) for x in state(shape, dtype))


STATES = {"fresh": fresh_memory, "three_kinds": three_kinds, "strided": transposed(three_kinds)}
SIZES = [(7, 3, 1, 1), (33, 5, 4, 4), (128, 40, 4, 4), (130, 7, 3, 3), (257, 9, 5, 10)]  # N, W, R, n
# tests/triton/test_step.py has slots of different tiles; views are copied before Triton's kernels see them
EQUAL_SLOTS = [
    parameter(case, sizes, state, kernel=kernel)
    for kernel in [PLAIN, *kernels_of("lrua")]
    for case in ("step_strength", "step_per_head")
    for sizes in (SIZES[:2] if is_interpreted(kernel) else SIZES)
    for state in STATES
    if state != "strided" or not is_interpreted(kernel)
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("case", "sizes", "state", "backend"), EQUAL_SLOTS, indirect=["backend"])
def test_equal_slots_stay_equal(
    backend: str, case: str, sizes: tuple[int, ...], state: str, dtype: torch.dtype
) -> None:
    """Slots of the same content and history get bit-equal results wherever they lie, or ties would not be ties."""
    shape = Shape(2, *sizes)
    N, n = shape.N, shape.n
    memory, read_weights, usage = STATES[state](shape, dtype)
    for t in range(5):
        inputs = {
            k: x for k, x in arguments(CASES[case], shape, dtype, t).items() if k in ("key", "add", "gate", "strength")
        }
        step = run_case(
            CASES[case], {"memory": memory, "read_weights": read_weights, "usage": usage, **inputs}, backend, n
        )
        slots = usage.sort(dim=-1, stable=True).indices[:, :n]
        rank = torch.full_like(usage, -1).scatter(1, slots, torch.arange(n).to(dtype).expand(shape.B, n))
        before = torch.cat([memory, read_weights.mT, usage.unsqueeze(-1), rank.unsqueeze(-1)], -1)
        after = torch.cat(
            [step["memory"], step["read_weights"].mT, step["usage"].unsqueeze(-1), step["write_weights"].mT], -1
        )
        for b in range(shape.B):
            _, kind = torch.unique(before[b], dim=0, return_inverse=True)
            first = torch.stack([(kind == kind[i]).nonzero()[0, 0] for i in range(N)])
            assert kind.max() < N - 1 or N < 10, "no two slots are alike: nothing is tested"
            assert torch.equal(after[b], after[b, first]), f"step {t}, episode {b}"
        memory, read_weights, usage = step["memory"], step["read_weights"], step["usage"]


@on_shapes(
    ["write", "read_strength", "usage", "step_strength", "step_per_head", "scan"],
    {"odd": SHAPES["odd"]},
    ["whole"],
    reference=True,
)
def test_permuting_slots_permutes_everything(backend: str, case: str, shape: Shape) -> None:
    order = torch.randperm(shape.N, generator=torch.Generator().manual_seed(3))

    def permuted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        axis = {"memory": 1, "read_weights": 2, "write_weights": 2, "usage": 1}
        return {
            name: x.index_select(axis[name.removeprefix("grad ")], order) if name.removeprefix("grad ") in axis else x
            for name, x in tensors.items()
        }

    tensors = arguments(CASES[case], shape, torch.float64)
    gradients = cotangents(CASES[case], shape, torch.float64)
    expected = permuted(evaluate(CASES[case], tensors, gradients, backend, shape.n))
    got = evaluate(CASES[case], permuted(tensors), permuted(gradients), backend, shape.n)
    errors = relative_errors(got, expected)
    assert max(errors.values()) < 1e-13, errors


@pytest.mark.parametrize("n", [1, 4, 8, 9, 33])
def test_ties_go_to_the_lower_index_in_any_permutation(backend: str, n: int) -> None:
    g = torch.Generator().manual_seed(n)
    usage = torch.randint(4, (10 if backend == "triton" else 50, 33), generator=g).float() / 4  # many ties
    mask = functional.least_used_mask(usage, n, backend=backend)
    for row, marks in zip(usage.tolist(), mask.tolist()):
        chosen = sorted(range(33), key=lambda i, row=row: (row[i], i))[:n]
        assert [i for i, one in enumerate(marks) if one] == sorted(chosen)


def test_float64_of_float32_values_is_float64(backend: str) -> None:
    """All arithmetic on float64 is done in float64."""
    tensors = arguments(CASES["step_strength"], SHAPES["odd"])
    wide = run_case(CASES["step_strength"], convert(tensors, torch.float64), backend)
    assert all(x.dtype == torch.float64 for x in wide.values())
    assert not same(wide["read"].float().double(), wide["read"])
