"""Lengths and resets in use: batch_first, gradcheck, where the loop is compiled, other controllers, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN
from tests.helpers import same
from tests.memories.ends import CONTROLLERS, KINDS, ends, on, some_lengths, some_resets
from tests.memories.sequences import BOTH, SIZES, Sequence, build, episode, named
from tests.recorder import Recorder


def test_example() -> None:
    """A trajectory that starts anew at step 1 ends as one that begins there."""
    mann, x = MANN(3, 5, 4, 2, 1), torch.randn(3, 1, 3)
    _, state = mann(x, reset=torch.tensor([[False], [True], [False]]))
    assert same(state.memory, mann(x[1:])[1].memory)


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
    input = torch.randn(7, 7, SIZES[0], dtype=torch.float64)
    for model, lengths in ((gru, some_lengths(7)), (own, some_lengths(7).clamp(min=1))):
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
        ([2**70, 1], ValueError, f"lengths: got 1 to {2**70}, need 0 to T = 3"),
        (torch.tensor([1, 3]).to_sparse(), TypeError, r"lengths: got torch.sparse_coo, need a dense tensor"),
    ):
        with pytest.raises(error, match="^" + said):
            model(x, lengths=lengths)
    for reset, error, said in (
        (torch.ones(3, 2), TypeError, r"reset: got torch.float32, need a bool tensor \(T, B\)"),
        ([True], TypeError, "reset: got list, need a bool"),
        (torch.ones(3, 2).bool().to_sparse(), TypeError, r"reset: got torch.sparse_coo, need a dense tensor"),
        (torch.ones(2, 3).bool(), ValueError, r"reset: got shape \(2, 3\), need \(T, B\) = \(3, 2\)"),
        (torch.ones(3, 2, device="meta").bool(), ValueError, "reset: got device meta, need cpu, the input's"),
    ):
        with pytest.raises(error, match="^" + said):
            model(x, reset=reset)
    with pytest.raises(TypeError, match=r"^reset: got list, need a bool tensor \(B, T\)"):
        build(module, batch_first=True)(x, reset=[True])
