"""Lengths and resets in an episode as one operation on a GPU: each episode equals a run of its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import assert_accurate, assert_same
from tests.memories.ends import CONTROLLERS, KINDS, apart, ends, evaluate, on, some_lengths, some_resets
from tests.memories.sequences import Sequence, apply, assert_close, episode
from tests.triton.episodes import BOTH, counted, on_gpu
from tests.triton.episodes import kernels as kernels
from tests.triton.recorder import Recorder

pytestmark = [pytest.mark.usefixtures("nan_filled_allocations", "kernels")]


def check(model: Any, input: Tensor, state: Any, **ends: Tensor) -> None:
    """One operation forward and one backward give what runs of the reference's cell give for each episode alone."""
    name, plain = f"{type(model).__name__.lower()}_episode", on(model, "reference")
    with Recorder() as recorder:
        got = evaluate(lambda x, s: model(x, s, **ends), model, input, state)
    assert {name: len(calls) for name, calls in recorder.calls.items()} == {name: 1, name + "_backward": 1}
    assert_close(got, evaluate(lambda x, s: apart(plain, x, s, **ends), plain, input, state))


@BOTH
@torch.no_grad()
def test_example(module: type[Sequence]) -> None:
    """A trajectory that starts anew at step 1 ends as one that begins there; one of no steps keeps its state."""
    model, input = on_gpu(module), torch.randn(3, 2, 3, dtype=torch.float64)
    _, state = model(input, reset=torch.tensor([[False, False], [True, False], [False, False]]), lengths=[3, 0])
    _, later = model(input[1:])
    torch.testing.assert_close(state.memory[0], later.memory[0])
    assert torch.equal(state.memory[1], model.initial_state(2).memory[1])


@BOTH
@CONTROLLERS
@KINDS
@pytest.mark.parametrize("T", [1, 5])
def test_equals_runs_apart(module: type[Sequence], controller: str, kind: str, T: int) -> None:
    """Outputs, last state and all gradients, also of a learned initial memory."""
    model = on_gpu(module, controller=controller, memory_init="learned")
    input, state = episode(model, T, B=7)
    check(model, input, state, **ends(kind, T))
    if T == 1:
        check(model, input, None, **ends(kind, T))


@BOTH
@KINDS
def test_a_reset_whose_steps_lie_side_by_side(module: type[Sequence], kind: str) -> None:
    """As a module with the batch first passes it on: the transpose of (B, T)."""
    model = on_gpu(module)
    input, state = episode(model, 5, B=7)
    given = {name: x.t().contiguous().t() if x.dim() == 2 else x for name, x in ends(kind, 5).items()}
    check(model, input, state, **given)


@BOTH
def test_long_episodes(module: type[Sequence]) -> None:
    """Three segments and a shorter last one are computed again; an episode ends within the second."""
    model = on_gpu(module, memory_init="learned")
    input, state = episode(model, 17, B=3)
    check(model, input, state, lengths=torch.tensor([17, 8, 16]), reset=some_resets(17)[:, 2:5])


@BOTH
@CONTROLLERS
def test_accuracy_of_float32(module: type[Sequence], controller: str) -> None:
    model = on_gpu(module, (7, 13, 33, 17, 3), torch.float32, memory_init="learned", controller=controller)
    input, state = episode(model, 3, B=7)
    plain, given = on(model, "reference"), ends("both", 3)
    double, doubled = copy.deepcopy(plain).double(), apply(state, Tensor.double)
    truth = evaluate(lambda x, s: apart(double, x, s, **given), double, input.double(), doubled)
    reference = evaluate(lambda x, s: plain(x, s, **given), plain, input, state)
    assert_accurate(evaluate(lambda x, s: model(x, s, **given), model, input, state), truth, reference)


@BOTH
def test_padding_may_be_anything(module: type[Sequence]) -> None:
    """It may be NaN, and no gradient comes from it."""
    model, lengths = on_gpu(module), some_lengths(4)
    input, state = episode(model, 4, B=7)
    beyond = (torch.arange(4).unsqueeze(1) >= lengths).unsqueeze(2)
    expected = evaluate(lambda x, s: model(x, s, lengths=lengths), model, input, state)
    padded = evaluate(lambda x, s: model(x, s, lengths=lengths), model, input.masked_fill(beyond, torch.nan), state)
    assert_same(padded, expected)
    assert expected["grad input"].masked_fill(~beyond, 0).count_nonzero() == 0
    assert expected["output"].masked_fill(~beyond, 0).count_nonzero() == 0


@BOTH
@CONTROLLERS
def test_full_lengths_and_no_resets_change_no_bit(module: type[Sequence], controller: str) -> None:
    model = on_gpu(module, dtype=torch.float32, controller=controller)
    input, state = episode(model, 3, B=3)
    expected = evaluate(model, model, input, state)
    for options in ({"lengths": [3, 3, 3]}, {"reset": torch.zeros(3, 3, dtype=torch.bool)}):
        assert_same(evaluate(lambda x, s: model(x, s, **options), model, input, state), expected)  # noqa: B023


@BOTH
def test_an_exploded_episode_does_not_reach_what_follows(module: type[Sequence]) -> None:
    """A state of NaN before a reset is not multiplied by zero behind it, forward or backward."""
    model = on_gpu(module, memory_init="learned")
    input, state = episode(model, 3, B=2)
    state = apply(state, lambda x: torch.full_like(x, torch.nan))
    reset = torch.tensor([[False, True], [True, False], [False, True]])
    output, last = model(input, state, reset=reset)
    assert output[1:].isfinite().all()
    assert last.memory.isfinite().all()
    (d_input,) = torch.autograd.grad(model(x := input.requires_grad_(), state, reset=reset)[0][1:].sum(), x)
    assert d_input[1:].isfinite().all()


@BOTH
@torch.no_grad()
def test_no_launch_more(module: type[Sequence]) -> None:
    model, found = on_gpu(module), []
    input, state = episode(model, 3, B=7)
    for options in ({}, ends("both", 3)):
        with counted() as launched:
            model(input, state, **options)
        found.append(launched)
    assert found[0] == found[1]
