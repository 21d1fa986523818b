"""Lengths and resets: each episode of a batch, and each part of a trajectory, equals a run of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN
from tests.helpers import Tensors, assert_accurate, same
from tests.memories.sequences import (
    BOTH,
    MOST,
    SIZES,
    Sequence,
    apply,
    assert_close,
    build,
    episode,
    gradients,
    named,
    zero_interface,
)
from tests.recorder import Recorder

BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
KINDS = pytest.mark.parametrize("kind", ["lengths", "reset", "both"])


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


def some_lengths(T: int) -> Tensor:
    """Unsorted, with ties, with all T steps and with none."""
    return torch.tensor([T // 2, 0, T, min(T, 3), T, T // 2, min(T, 1)])


def some_resets(T: int, B: int = 7) -> Tensor:
    """None for the first episode, every step for the second, the first step for the third; at random for the others."""
    reset = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.3
    reset[:, 0], reset[:, 1] = False, True
    reset[:, 2] = torch.arange(T) == 0
    return reset


def ends(kind: str, T: int) -> dict[str, Tensor]:
    every = {"lengths": some_lengths(T), "reset": some_resets(T)}
    return every if kind == "both" else {kind: every[kind]}


def apart(model: Any, input: Tensor, state: Any, lengths: Tensor | None = None, reset: Tensor | None = None) -> Any:
    """The definition: a loop over the cell for each episode alone, from the initial state at each of its resets."""
    T, B, _ = input.shape
    state = model.initial_state(B) if state is None else state
    outputs, states = [], []
    for b in range(B):
        last, of_b = apply(state, lambda x: x[b : b + 1]), [input.new_zeros(0, model.output_size)]  # noqa: B023
        for t in range(T if lengths is None else int(lengths[b])):
            if reset is not None and reset[t, b]:
                last = model.initial_state(1)
            output, last = model.cell(input[t, b : b + 1], last)
            of_b.append(output)
        outputs.append(torch.cat([*of_b, input.new_zeros(T + 1 - len(of_b), model.output_size)]))
        states.append(last)
    controller = [torch.cat(x) for x in zip(*(x.controller for x in states), strict=True)]
    parts = [torch.cat(x) for x in zip(*(x[1:] for x in states), strict=True)]
    return torch.stack(outputs, 1), type(state)(tuple(controller), *parts)


def evaluate(run: Callable[..., Any], model: Any, input: Tensor, state: Any) -> Tensors:
    """Outputs, last state and, as "grad x", all gradients of run(input, state)."""
    input = input.detach().requires_grad_()
    leaves = {"input": input} | dict(model.named_parameters())
    if state is not None:
        state = apply(state, lambda x: x.detach().requires_grad_())
        leaves |= named(state)
    output, last = run(input, state)
    results, g = {"output": output} | named(last), torch.Generator().manual_seed(2)
    loss = torch.stack([(x * torch.randn(x.shape, generator=g).to(x.dtype)).sum() for x in results.values()]).sum()
    return {name: x.detach() for name, x in results.items()} | gradients(loss, leaves)


def check(model: Any, input: Tensor, state: Any, **ends: Any) -> None:
    got = evaluate(lambda x, s: model(x, s, **ends), model, input, state)
    assert_close(got, evaluate(lambda x, s: apart(model, x, s, **ends), model, input, state))


def on(model: Any, backend: str) -> Any:
    model = copy.deepcopy(model)
    model.cell.backend = backend
    return model


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
        monkeypatch.setattr(module, "_in_batch_chunks", lambda self, *arguments: self.cell.fused_episode(*arguments))
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


@BOTH
def test_batch_first(module: type[Sequence]) -> None:
    model, first = build(module), build(module, batch_first=True)
    input, state = episode(model, 7, B=7)
    lengths, reset = some_lengths(7), some_resets(7)
    expected, last = model(input, state, lengths=lengths, reset=reset)
    output, state = first(input.transpose(0, 1), state, lengths=lengths.tolist(), reset=reset.t())
    assert same(output.transpose(0, 1), expected)
    assert all(same(x, named(last)[name]) for name, x in named(state).items())


@BOTH
@CONTROLLERS
@KINDS
def test_gradcheck(module: type[Sequence], controller: str, kind: str) -> None:
    model = build(module, (2, 3, 4, 2, 1), controller=controller, memory_init="learned")
    input, state = episode(model, 3, B=7)
    given, parts = ends(kind, 3), list(named(state))

    def run(x: Tensor, initial: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(parts, tensors, strict=True))
        controller_state = (values.pop("h"), values.pop("c")) if state.controller else ()
        names = {"cell.initial_memory": initial}
        arguments = x, type(state)(controller_state, **values)
        output, last = torch.func.functional_call(model, names, arguments, given)
        return output, *named(last).values()

    leaves = [x.detach().requires_grad_() for x in (input, model.cell.initial_memory, *named(state).values())]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@BOTH
def test_where_the_loop_is_compiled(module: type[Sequence]) -> None:
    def calls(model: Any, **options: Any) -> int:
        with Recorder() as recorder:
            model(torch.zeros(2, 3, SIZES[0], dtype=torch.float64), **options)
        return len(recorder.calls.get(f"{module.__name__.lower()}_episode", ()))

    reset = torch.ones(2, 3, dtype=torch.bool)
    model = build(module)
    assert calls(model, lengths=[1, 2, 0]) == calls(model, reset=reset) == 1
    model.cell.initial_state = lambda B: type(model.cell).initial_state(model.cell, B)
    assert calls(model, lengths=[1, 2, 0]) == 1
    assert calls(model, reset=reset) == 0
    assert calls(on(build(module), "reference"), lengths=[1, 2, 0]) == 0


class Doubled(nn.Module):
    """A controller of the caller's own, whose state starts as None and is nested."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(11, 5, dtype=torch.float64)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, c = self.cell(input, None if state is None else (state["h"], state["c"]))
        return 2 * h, {"h": h, "c": c}


@BOTH
def test_other_controllers(module: type[Sequence]) -> None:
    torch.manual_seed(0)
    gru = build(module, controller=nn.GRUCell(11, 5, dtype=torch.float64))
    own = build(module, controller=Doubled())
    input, lengths = torch.randn(7, 7, SIZES[0], dtype=torch.float64), some_lengths(7)
    for model in (gru, own):
        output, state = model(input, lengths=lengths)
        for b, n in enumerate(lengths):
            alone, last = model(input[:n, b : b + 1])
            torch.testing.assert_close(output[:n, b : b + 1], alone, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(state.memory[b : b + 1], last.memory, rtol=1e-12, atol=1e-12)
    reset = some_resets(7)
    torch.testing.assert_close(gru(input, reset=reset)[0][:, 1:2], gru(input[:, 1:2], reset=reset[:, 1:2])[0])
    torch.testing.assert_close(gru(input, reset=reset)[0][6, 1], gru(input[6:, 1:2])[0][0, 0])
    with pytest.raises(TypeError, match=r"^reset: got a Doubled as controller, "):
        own(input, reset=reset)


@BOTH
def test_errors(module: type[Sequence]) -> None:
    model, x = build(module), torch.zeros(3, 2, SIZES[0], dtype=torch.float64)
    for lengths, error, said in (
        ([3], ValueError, r"lengths: got shape \(1,\), need \(B\) = \(2,\)"),
        ([3, 4], ValueError, "lengths: got 3 to 4, need 0 to T = 3"),
        (torch.tensor([-1, 3]), ValueError, "lengths: got -1 to 3, need 0 to T = 3"),
        (torch.tensor([1.0, 3.0]), TypeError, r"lengths: got torch.float32, need an int64 tensor \(B\) or a list"),
        ([1.0, 3.0], TypeError, "lengths: got list, need an int64"),
        ([True, False], TypeError, "lengths: got list, need an int64"),
        (3, TypeError, "lengths: got int, need an int64"),
    ):
        with pytest.raises(error, match="^" + said):
            model(x, lengths=lengths)
    for reset, error, said in (
        (torch.ones(3, 2), TypeError, r"reset: got torch.float32, need a bool tensor \(T, B\)"),
        ([True], TypeError, "reset: got list, need a bool"),
        (torch.ones(2, 3).bool(), ValueError, r"reset: got shape \(2, 3\), need \(T, B\) = \(3, 2\)"),
        (torch.ones(3, 2, device="meta").bool(), ValueError, "reset: got device meta, need cpu, the input's"),
    ):
        with pytest.raises(error, match="^" + said):
            model(x, reset=reset)
    with pytest.raises(TypeError, match=r"^reset: got list, need a bool tensor \(B, T\)"):
        build(module, batch_first=True)(x, reset=[True])
