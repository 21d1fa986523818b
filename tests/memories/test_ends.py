"""Lengths and resets: each episode of a batch, and each part of a trajectory, equals a run of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import MANN
from mannkern.memories import layer
from tests.helpers import assert_accurate, same
from tests.memories.ends import (
    BACKENDS,
    CONTROLLERS,
    KINDS,
    apart,
    check,
    ends,
    evaluate,
    on,
    some_lengths,
    some_resets,
)
from tests.memories.sequences import BOTH, MOST, SIZES, Sequence, apply, assert_close, build, episode, zero_interface


@torch.no_grad()
def test_example() -> None:
    """The example of tests/memories/test_sequence.py: of two steps the second episode has one, the third none."""
    mann = zero_interface(MANN(3, 5, 2, 1, 1, memory_init=4.0, dtype=torch.float64))
    output, state = mann(torch.randn(2, 3, 3, dtype=torch.float64), lengths=[2, 1, 0])
    assert output[:, :, 5].tolist() == [[2, 2, 0], [2, 0, 0]]
    assert output[0, 2].count_nonzero() == output[1, 1].count_nonzero() == 0
    assert state.memory.flatten(1).tolist() == [[4, 0], [4, 0], [4, 4]]
    assert state.usage.flatten().tolist() == pytest.approx([2.7201, 2.24, 1.99, 1, 1, 0])
    reset = torch.tensor([[False, False], [False, True]])
    _, state = mann(torch.randn(2, 2, 3, dtype=torch.float64), reset=reset)
    assert state.usage.flatten().tolist() == pytest.approx([2.7201, 2.24, 1.99, 1])


@BOTH
@BACKENDS
@CONTROLLERS
@KINDS
@pytest.mark.parametrize("T", [0, 1, 7])
@pytest.mark.usefixtures("nan_filled_allocations")
def test_equals_runs_apart(module: type[Sequence], backend: str, controller: str, kind: str, T: int) -> None:
    model = build(module, backend=backend, controller=controller, memory_init="learned")
    input, state = episode(model, T, B=7)
    check(model, input, state, **ends(kind, T))
    check(model, input, None, **ends(kind, T))


@BOTH
@CONTROLLERS
@pytest.mark.usefixtures("isa")
def test_long_episodes(module: type[Sequence], controller: str) -> None:
    model = build(module, (7, 13, 33, 17, 3), controller=controller, memory_init="learned", **MOST[module])
    input, state = episode(model, 50, B=7)
    check(model, input, state, **ends("both", 50))


@BOTH
@KINDS
@pytest.mark.parametrize("sizes", [SIZES, (40, 64, 128, 40, 4)], ids=["small", "standard_memory"])
def test_accuracy_of_float32(module: type[Sequence], sizes: tuple[int, ...], kind: str) -> None:
    model = build(module, sizes, torch.float32, memory_init="learned")
    input, state = episode(model, 7, B=7)
    double, doubled = copy.deepcopy(model).double(), apply(state, Tensor.double)
    truth = evaluate(lambda x, s: apart(double, x, s, **ends(kind, 7)), double, input.double(), doubled)
    plain = on(model, "reference")
    reference = evaluate(lambda x, s: plain(x, s, **ends(kind, 7)), plain, input, state)
    assert_accurate(evaluate(lambda x, s: model(x, s, **ends(kind, 7)), model, input, state), truth, reference)


@BOTH
@BACKENDS
def test_padding_may_be_anything(module: type[Sequence], backend: str) -> None:
    model = build(module, backend=backend)
    input, state = episode(model, 7, B=7)
    lengths = some_lengths(7)
    beyond = (torch.arange(7).unsqueeze(1) >= lengths).unsqueeze(2)
    expected = evaluate(lambda x, s: model(x, s, lengths=lengths), model, input, state)
    padded = evaluate(lambda x, s: model(x, s, lengths=lengths), model, input.masked_fill(beyond, torch.nan), state)
    assert all(same(padded[name], x) for name, x in expected.items())
    assert expected["grad input"].masked_fill(~beyond, 0).count_nonzero() == 0
    assert expected["output"].masked_fill(~beyond, 0).count_nonzero() == 0


@BOTH
@BACKENDS
def test_full_lengths_and_no_resets_change_no_bit(module: type[Sequence], backend: str) -> None:
    model = build(module, backend=backend, dtype=torch.float32)
    input, state = episode(model, 7, B=3)
    expected = evaluate(model, model, input, state)
    for options in ({"lengths": [7, 7, 7]}, {"reset": torch.zeros(7, 3, dtype=torch.bool)}):
        got = evaluate(lambda x, s: model(x, s, **options), model, input, state)  # noqa: B023
        assert all(same(got[name], x) for name, x in expected.items())


@BOTH
def test_gradients_end_at_a_reset(module: type[Sequence]) -> None:
    model = build(module, memory_init="learned")
    input, state = episode(model, 6, B=2)
    leaves = [x.requires_grad_() for x in (input, *state[1:])]
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[4, 0] = True
    output, _ = model(input, state, reset=reset)
    d_input, *d_state = torch.autograd.grad(output[4:].square().sum(), leaves, retain_graph=True)
    assert d_input[:4, 0].count_nonzero() == 0
    assert all(x[0].count_nonzero() == 0 for x in d_state)
    assert d_state[0][1].count_nonzero() > 0
    (d_memory,) = torch.autograd.grad(output[4:, 0].square().sum(), model.cell.initial_memory)
    assert d_memory.count_nonzero() > 0


@BOTH
def test_an_exploded_episode_does_not_reach_what_follows(module: type[Sequence]) -> None:
    """A state of NaN before a reset is not multiplied by zero behind it."""
    model = build(module)
    input, state = episode(model, 4, B=2)
    state = state._replace(memory=torch.full_like(state.memory, torch.nan), read=state.read * torch.nan)
    reset = torch.ones(4, 2, dtype=torch.bool)
    for run in (model, on(model, "reference")):
        output, last = run(input, state, reset=reset)
        assert output.isfinite().all()
        assert last.memory.isfinite().all()


@BOTH
@CONTROLLERS
@pytest.mark.parametrize("calls", ["one", "a_chunk_each"])
@pytest.mark.usefixtures("nan_filled_allocations")
def test_large_batches(
    module: type[Sequence],
    controller: str,
    calls: str,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several chunks, with episodes that end in each; no bit depends on threads or on the other episodes."""
    if calls == "one":  # as without gradients and under torch.compile: the operation itself goes through the chunks
        monkeypatch.setattr(layer, "_in_batch_chunks", lambda run, *arguments: run(*arguments))
    B, model = 300, build(module, controller=controller, memory_init="learned")
    input, state = episode(model, 7, B)
    lengths = torch.arange(B) * 5 % 8
    reset = some_resets(7, B)
    results = []
    for count in (1, 2):
        threads(count)
        results.append(evaluate(lambda x, s: model(x, s, lengths=lengths, reset=reset), model, input, state))
    assert_close(*results, 0)
    plain = on(model, "reference")
    expected = evaluate(lambda x, s: plain(x, s, lengths=lengths, reset=reset), plain, input, state)
    assert_close(results[0], expected)
    some = slice(100, 120)
    part, _ = model(input[:, some], apply(state, lambda x: x[some]), lengths=lengths[some], reset=reset[:, some])
    assert same(part.detach(), results[0]["output"][:, some])
