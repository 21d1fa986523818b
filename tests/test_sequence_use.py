"""MANN in use: parts of a loss, truncated episodes, hooks, other controllers, threads, torch.func and opcheck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN
from tests.helpers import Tensors, same
from tests.test_sequence import (
    OPTIONS,
    SIZES,
    apply,
    assert_close,
    build,
    episode,
    evaluate,
    gradients,
    loop,
    named,
    squares,
)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Any) -> None:
    mann = build()
    input, state = episode(mann, 7, B=2)
    with context():
        output, last = mann(input, state)
    assert not output.requires_grad
    assert not last.memory.requires_grad
    assert same(output.clone(), mann(input, state)[0].detach())


@pytest.mark.parametrize("part", ["output", "memory", "usage", "read_weights", "read", "h", "c"])
def test_loss_of_one_result(part: str) -> None:
    mann = build()
    input, state = episode(mann, 7, B=2)
    grads = []
    for run in (mann, lambda *arguments: loop(mann, *arguments)):
        x = input.clone().requires_grad_()
        output, last = run(x, state)
        found = ({"output": output} | named(last))[part]
        grads.append(gradients(found.square().sum(), {"input": x} | dict(mann.named_parameters())))
    assert_close(*grads)


def test_two_segments_are_one_episode() -> None:
    mann = build()
    input, state = episode(mann, 12, B=2)
    x = input.clone().requires_grad_()
    first, middle = mann(x[:5], state)
    second, _ = mann(x[5:], middle)
    loss = first.square().sum() + second.square().sum()
    assert_close(gradients(loss, {"input": x} | dict(mann.named_parameters())), squares(mann, input, state))


def test_a_detached_state_truncates() -> None:
    mann = build()
    input, state = episode(mann, 12, B=2)
    x = input.clone().requires_grad_()
    _, middle = mann(x[:5], state)
    middle = apply(middle, Tensor.detach)
    got = gradients(mann(x[5:], middle)[0].square().sum(), {"input": x} | dict(mann.named_parameters()))
    early, late = got["grad input"].split([5, 7])
    assert early.count_nonzero() == 0
    expected = squares(mann, input[5:], middle)
    assert_close(got | {"grad input": late}, expected, 1e-14)


def test_where_the_loop_is_compiled() -> None:
    def compiled(mann: MANN) -> bool:
        output, _ = mann(torch.zeros(2, 1, SIZES[0], dtype=mann.cell.interface.weight.dtype))
        return "MANNLSTM" in type(output.grad_fn).__name__

    assert compiled(build())
    assert compiled(build(**OPTIONS["every_slot_least_used"]))
    assert not compiled(build(backend="reference"))
    assert not compiled(build(controller="feedforward"))
    assert not compiled(build(controller=nn.GRUCell(11, 5, dtype=torch.float64)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not compiled(build(dtype=torch.float32))


HOOKS = ("register_forward_pre_hook", "register_forward_hook", "register_full_backward_hook")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("where", ["controller", "interface"])
def test_hooks_are_called(where: str, hook: str) -> None:
    """Pruning and spectral norm live in hooks, so a loop that skips them is wrong in silence."""
    mann, calls = build(), []
    getattr(getattr(mann.cell, where), hook)(lambda *_: calls.append(1))
    input, state = episode(mann, 3, B=2)
    mann(input.requires_grad_(), state)[0].sum().backward()
    assert calls == [1, 1, 1]


def test_second_gradients_are_refused() -> None:
    mann = build()
    input, state = episode(mann, 3, B=2)
    for run in (mann, lambda *arguments: loop(mann, *arguments)):
        x = input.clone().requires_grad_()
        loss = run(x, state)[0].sum()
        (penalty,) = torch.autograd.grad(loss, x, create_graph=True)
        with pytest.raises(RuntimeError, match="backend='reference'"):
            (loss + penalty.square().sum()).backward()


@pytest.mark.parametrize(
    "controller", ["feedforward", nn.GRUCell(11, 5, dtype=torch.float64)], ids=["feedforward", "gru"]
)
def test_other_controllers_equal_the_loop(controller: str | nn.Module) -> None:
    mann = build(controller=controller)
    input = torch.randn(6, 3, SIZES[0], dtype=torch.float64)
    got, last = mann(input)
    expected, wanted = loop(mann, input, None)
    assert same(got, expected)
    assert same(last.memory, wanted.memory)


def test_threads(threads: Callable[[int], None]) -> None:
    mann = build((20, 64, 128, 40, 4))
    input, state = episode(mann, 5, B=16)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(evaluate(mann, "mann", input, state))
    assert_close(*found, 1e-12)  # BLAS may add up in another order


def test_torch_func_gradients() -> None:
    mann = build()
    input, state = episode(mann, 5, B=2)
    parameters = dict(mann.named_parameters())

    def loss(parameters: Tensors) -> Tensor:
        return torch.func.functional_call(mann, parameters, (input, state))[0].square().sum()

    expected = squares(mann, input, state)
    del expected["grad input"]
    assert_close({f"grad {name}": g for name, g in torch.func.grad(loss)(parameters).items()}, expected)


@pytest.mark.parametrize("options", [{}, OPTIONS["every_slot_least_used"]], ids=["plain", "strength"])
@pytest.mark.parametrize(("T", "B"), [(1, 2), (5, 2), (3, 0)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(T: int, B: int, options: dict[str, Any]) -> None:
    mann = build(dtype=torch.float32, **options)
    cell, lstm = mann.cell, mann.cell.controller
    input, state = episode(mann, T, B)
    D, per_head = cell.hidden_size, cell.least_used == "per_head"
    w_x, w_rec, w_if = torch.randn(4 * D, 3), torch.randn(4 * D, mann.output_size), cell.interface.weight.detach()
    output, (_, c) = torch.randn(B, mann.output_size), state.controller
    arguments = (
        input, w_x, lstm.bias_ih.detach(), w_rec, w_if, cell.interface.bias.detach(), output, c,
        *state[1:4], cell.num_least_used, per_head, cell.decay,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.mannkern.mann_lstm, arguments)
    outputs, memory, usage, *saved = torch.ops.mannkern.mann_lstm(*arguments)
    last = (memory, usage, state.read_weights, c)
    tensors = (input, w_x, w_rec, w_if, output, c, state.memory, state.read_weights, outputs, *saved)
    for grads in ((outputs, *last), (None, memory, None, None, None)):
        for wants_input in (False, True):
            torch.library.opcheck(
                torch.ops.mannkern.mann_lstm_backward, (*grads, *tensors, per_head, cell.decay, wants_input)
            )
