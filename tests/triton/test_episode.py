"""A MANN's episode as one operation: results and gradients, checkpoints, launches of a step, what is saved."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN
from mannkern.triton import tiling
from tests.helpers import assert_accurate, assert_same, strided
from tests.memories.sequences import (
    OPTIONS,
    apply,
    assert_close,
    episode,
    evaluate,
    gradients,
    named,
    zero_interface,
)
from tests.triton.episodes import SMALL, mann
from tests.triton.recorder import Recorder
from tests.triton.table import MANY

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def check(model: Any, input: Tensor, state: Any) -> None:
    """Outputs, last state and all gradients in float64 are those of a loop over the reference."""
    with Recorder() as recorder:
        got = evaluate(model, "whole", input, state)
    assert {name: len(calls) for name, calls in recorder.calls.items()} == {
        "mann_episode": 1,
        "mann_episode_backward": 1,
    }
    assert_close(got, evaluate(model, "reference", input, state))


@torch.no_grad()
def test_example() -> None:
    """The example of tests/memories/test_sequence.py: two steps of a memory of two slots, by hand."""
    model = zero_interface(mann((3, 5, 2, 1, 1), memory_init=4.0))
    output, state = model(torch.randn(2, 1, 3, dtype=torch.float64))
    assert output[:, 0, 5].tolist() == [2, 2]
    assert state.memory.flatten().tolist() == [4, 0]
    assert state.usage.flatten().tolist() == pytest.approx([2.7201, 2.24])


@pytest.mark.parametrize(
    ("T", "B", "sizes"), [(1, 3, (3, 5, 7, 4, 1)), (2, 1, (3, 5, 7, 4, 4)), (5, 3, SMALL), (17, 1, (1, 2, 3, 2, 1))]
)
def test_steps_episodes_and_heads(T: int, B: int, sizes: tuple[int, ...]) -> None:
    """One step, two, and so many that there are checkpoints, with a last segment that is shorter than the others."""
    model = mann(sizes)
    check(model, *episode(model, T, B))


@pytest.mark.parametrize("name", OPTIONS[MANN])
def test_options(name: str) -> None:
    model = mann((3, 5, 8, 4, 2), **OPTIONS[MANN][name])
    check(model, *episode(model, 2, B=2))


LARGE = tiling.product_blocks(1, 1, torch.float64)  # its blocks of columns and chunks of terms


@pytest.mark.parametrize(
    ("sizes", "controller"),
    [
        ((1, 1, 1, 1, 1), "lstm"),
        ((7, 13, 33, 17, 3), "lstm"),
        ((2, 3, 3, 5, 4), "feedforward"),  # more heads than slots
        ((70, LARGE.BO + 1, 5, 3, 2), "feedforward"),  # several blocks of units, several chunks
        ((1, tiling.PRELOADED_CHUNKS * LARGE.S * LARGE.BK + 1, 2, 1, 1), "feedforward"),  # a long sum
    ],
)
def test_sizes(sizes: tuple[int, ...], controller: str) -> None:
    model = mann(sizes, controller=controller, key_strength=True)
    check(model, *episode(model, 2, B=1))


def test_long_sums_that_warps_share() -> None:
    """In float32, with more terms than are loaded at once, in the recurrent product's backward pass."""
    blocks = tiling.product_blocks(1, 1, torch.float32)
    D = tiling.PRELOADED_CHUNKS * blocks.S * blocks.BK // 4 + 1
    check_float32(mann((2, D, 2, 1, 1), torch.float32), T=1, B=1)


def test_many_least_used_slots() -> None:
    """So many that they are searched by bisection."""
    model = mann((3, 4, MANY + 3, 2, 2), num_least_used=MANY)
    check(model, *episode(model, 2, B=1))


@pytest.mark.parametrize("B", [LARGE.BB + 1, tiling.FEW_EPISODES + 1])
def test_blocks_of_episodes(B: int) -> None:
    """One episode more than a block of the products has, and than take small blocks."""
    check_float32(mann((2, 3, 2, 1, 1), torch.float32), T=1, B=B)


def test_accuracy_of_float32() -> None:
    check_float32(mann((7, 13, 33, 17, 3), torch.float32, key_strength=True), T=4, B=2)


def check_float32(model: Any, T: int, B: int) -> None:
    """The accuracy rule, for outputs, last state and all gradients."""
    input, state = episode(model, T, B)
    truth = evaluate(copy.deepcopy(model).double(), "reference", input.double(), apply(state, Tensor.double))
    assert truth["usage"].sort(-1).values.diff().min() > 1e-5  # rounding chose no slot
    assert_accurate(evaluate(model, "whole", input, state), truth, evaluate(model, "reference", input, state))


def test_no_episodes_and_no_steps() -> None:
    model = mann()
    output, last = model(torch.zeros(3, 0, 3, dtype=torch.float64))
    assert output.shape == (3, 0, model.output_size)
    assert last.memory.shape == (0, 7, 4)
    output.sum().backward()
    assert model(torch.zeros(0, 2, 3, dtype=torch.float64))[0].shape == (0, 2, model.output_size)


def test_strided_input_and_state() -> None:
    model = mann()
    input, state = episode(model, 3, B=2)
    got = evaluate(model, "whole", strided(input), apply(state, strided))
    assert_close(got, evaluate(model, "whole", input, state), 1e-14)


@pytest.mark.parametrize(
    ("used", "controller"),
    [(name, "lstm") for name in ("output", "memory", "read_weights", "usage", "h", "c", "read")]
    + [("output", "feedforward"), ("usage", "feedforward")],
)
def test_gradient_of_one_result(used: str, controller: str) -> None:
    model = mann((2, 3, 4, 2, 1), controller=controller)
    input, state = episode(model, 2, B=1)
    found = []
    for backend in ("triton", "reference"):
        model.cell.backend = backend
        x = input.clone().requires_grad_()
        leaves = {"input": x} | named(apply(state, lambda y: y.clone().requires_grad_()))
        first = type(state)(tuple(leaves[k] for k in "hc" if k in leaves), *[leaves[k] for k in state._fields[1:]])
        output, last = model(x, first)
        result = output if used == "output" else named(last)[used]
        found.append(gradients(result.square().sum(), leaves | dict(model.named_parameters())))
    assert_close(*found)


def test_an_input_without_a_gradient() -> None:
    """Its product is left out; the gradients of the parameters stay as they are."""
    model = mann()
    input, state = episode(model, 3, B=2)
    found = []
    for wanted in (False, True):
        with Recorder() as recorder:
            model(input.clone().requires_grad_(wanted), state)[0].square().sum().backward()
        assert len(recorder.calls["mann_episode_backward"][0].outputs[0]) == (3 if wanted else 0)
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
        model.zero_grad()
    assert_same(*found)
