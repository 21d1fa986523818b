"""MANN's compiled loop against looping its cell and against the reference: outputs, last state and every gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN, MANNState
from tests.helpers import Tensors, assert_accurate, relative_errors, same, strided

SIZES = (3, 5, 8, 4, 2)  # F, D, N, W, R
OPTIONS: dict[str, dict[str, Any]] = {
    "key_strength": {"key_strength": True},
    "per_head": {"least_used": "per_head", "decay": 0.5},
    "one_least_used": {"num_least_used": 1},
    "every_slot_least_used": {"num_least_used": 8, "key_strength": True, "decay": 1.0},
}


def build(sizes: tuple[int, ...] = SIZES, dtype: torch.dtype = torch.float64, **options: Any) -> MANN:
    torch.manual_seed(0)
    return MANN(*sizes, dtype=dtype, **{"backend": "cpp"} | options)


def episode(mann: MANN, T: int, B: int) -> tuple[Tensor, MANNState]:
    """Random input and state, usages 0.1 and more apart."""
    cell, g = mann.cell, torch.Generator().manual_seed(1)
    D, N, W, R = cell.hidden_size, cell.memory_slots, cell.memory_width, cell.num_reads
    h, c, input = (torch.randn(*size, generator=g) for size in ((B, D), (B, D), (T, B, cell.input_size)))
    usage = 0.2 * torch.rand(B, N, generator=g).argsort(-1) + 0.1 * torch.rand(B, N, generator=g)
    memory, read = torch.randn(B, N, W, generator=g), torch.randn(B, R, W, generator=g)
    state = MANNState((h, c), memory, torch.randn(B, R, N, generator=g).softmax(-1), usage, read)
    dtype = cell.interface.weight.dtype
    return input.to(dtype), apply(state, lambda x: x.to(dtype))


def apply(state: MANNState, f: Callable[[Tensor], Tensor]) -> MANNState:
    return MANNState(tuple(map(f, state.controller)), *map(f, state[1:]))


def named(state: MANNState) -> Tensors:
    return {"h": state.controller[0], "c": state.controller[1]} | state._asdict() | {"controller": torch.zeros(0)}


def loop(mann: MANN, input: Tensor, state: MANNState | None) -> tuple[Tensor, MANNState]:
    """What MANN is: its cell, step by step."""
    outputs = []
    for x in input.unbind(1 if mann.batch_first else 0):
        output, state = mann.cell(x, state)
        outputs.append(output)
    assert state is not None
    return torch.stack(outputs, 1 if mann.batch_first else 0), state


def evaluate(mann: MANN, how: str, input: Tensor, state: MANNState | None) -> Tensors:
    """Outputs, last state and, as "grad x", all gradients; ``how``: "mann", "cells" (a loop of them) or "reference"."""
    if how == "reference":
        mann = copy.deepcopy(mann)
        mann.cell.backend = "reference"
    input = input.detach().requires_grad_()
    leaves = {"input": input}
    if state is not None:
        state = apply(state, lambda x: x.detach().requires_grad_())
        leaves |= named(state)
        del leaves["controller"]
    leaves |= dict(mann.named_parameters())
    before = {name: x._version for name, x in leaves.items()}
    output, last = loop(mann, input, state) if how == "cells" else mann(input, state)
    found = {"output": output} | named(last)
    loss, g = torch.zeros((), dtype=output.dtype), torch.Generator().manual_seed(2)
    for x in found.values():
        loss = loss + (x * torch.randn(x.shape, generator=g).to(x.dtype)).sum()
    found = {name: x.detach() for name, x in found.items()} | gradients(loss, leaves)
    assert {name: x._version for name, x in leaves.items()} == before
    return found


def assert_close(got: Tensors, expected: Tensors, bound: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    assert all(got[name].shape == x.shape for name, x in expected.items())
    wrong = {name: error for name, error in relative_errors(got, expected).items() if not error <= bound}
    assert not wrong, wrong


def check(mann: MANN, input: Tensor, state: MANNState | None) -> None:
    got = evaluate(mann, "mann", input, state)
    assert_close(got, evaluate(mann, "cells", input, state))
    assert_close(got, evaluate(mann, "reference", input, state))


def squares(mann: MANN, *arguments: Any) -> Tensors:
    """Gradients of the sum of squares of the output."""
    x = arguments[0].clone().requires_grad_()
    return gradients(mann(x, *arguments[1:])[0].square().sum(), {"input": x} | dict(mann.named_parameters()))


def gradients(loss: Tensor, leaves: Tensors) -> Tensors:
    got = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {f"grad {name}": g for name, g in zip(leaves, got, strict=True)}


@pytest.mark.parametrize("T", [1, 2, 3, 7, 16, 50])
@pytest.mark.usefixtures("kernel", "nan_filled_allocations")
def test_equals_its_cells_and_the_reference(T: int) -> None:
    mann = build()
    check(mann, *episode(mann, T, B=3))


@pytest.mark.parametrize("T", [4, 7, 50])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options: dict[str, Any], T: int) -> None:
    mann = build(**options)
    check(mann, *episode(mann, T, B=2))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (7, 13, 33, 17, 3), (2, 3, 3, 5, 6), (20, 200, 128, 40, 4)])
@pytest.mark.usefixtures("kernel")
def test_sizes(sizes: tuple[int, ...]) -> None:
    mann = build(sizes, key_strength=True)
    check(mann, *episode(mann, 5, B=2))


@pytest.mark.parametrize("memory_init", ["learned", "uniform", 1e-6, 0.0])
@pytest.mark.parametrize("T", [2, 50])
def test_from_the_initial_state(T: int, memory_init: float | str) -> None:
    mann = build(memory_init=memory_init)
    check(mann, episode(mann, T, B=2)[0], None)


@pytest.mark.parametrize("B", [0, 1])
def test_few_episodes(B: int) -> None:
    mann = build()
    check(mann, *episode(mann, 7, B))
    check(mann, episode(mann, 7, B)[0], None)


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("sizes", [SIZES, (40, 64, 128, 40, 4)], ids=["small", "standard_memory"])
@pytest.mark.usefixtures("kernel")
def test_accuracy_of_float32(sizes: tuple[int, ...], T: int) -> None:
    mann = build(sizes, torch.float32, key_strength=True)
    input, state = episode(mann, T, B=4)
    truth = evaluate(copy.deepcopy(mann).double(), "reference", input.double(), apply(state, Tensor.double))
    slots = truth["usage"].sort(-1).values.diff()
    assert slots.min() > 1e-5  # rounding chose no slot
    assert_accurate(evaluate(mann, "mann", input, state), truth, evaluate(mann, "reference", input, state))


def test_no_steps_return_the_state_as_it_came() -> None:
    mann = build()
    input, state = episode(mann, 0, B=3)
    got = evaluate(mann, "mann", input, state)
    assert got["output"].shape == (0, 3, mann.output_size)
    assert all(same(got[name], x) for name, x in named(state).items())
    assert mann(input)[0].shape == (0, 3, mann.output_size)


def test_batch_first() -> None:
    mann, first = build(), build(batch_first=True)
    input, state = episode(mann, 7, B=3)
    got = evaluate(first, "mann", input.transpose(0, 1), state)
    assert_close(got, evaluate(first, "cells", input.transpose(0, 1).contiguous(), state))
    assert same(got["output"].transpose(0, 1), mann(input, state)[0].detach())
    assert first(input.transpose(0, 1)[:, :0])[0].shape == (3, 0, first.output_size)


def test_strided_input_and_state() -> None:
    mann = build()
    input, state = episode(mann, 7, B=3)
    got = evaluate(mann, "mann", strided(input), apply(state, strided))
    assert_close(got, evaluate(mann, "mann", input, state), 1e-14)


def test_an_episode_does_not_know_its_neighbours() -> None:
    mann = build()
    input, state = episode(mann, 7, B=5)
    whole, last = mann(input, state)
    for b in range(5):
        alone, state_b = mann(input[:, b : b + 1], apply(state, lambda x: x[b : b + 1]))  # noqa: B023
        torch.testing.assert_close(alone[:, 0], whole[:, b], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state_b.memory[0], last.memory[b], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", ["input", "parameters"])
def test_gradients_of_some(wanted: str) -> None:
    mann = build()
    input, state = episode(mann, 7, B=2)
    whole = mann(input.clone().requires_grad_(), state)[0]
    part = mann if wanted == "parameters" else copy.deepcopy(mann).requires_grad_(False)
    x = input.clone().requires_grad_(wanted == "input")
    output = part(x, state)[0]
    output.square().sum().backward()
    assert same(output, whole)
    got = {"input": x.grad} if wanted == "input" else {name: p.grad for name, p in part.named_parameters()}
    expected = squares(mann, input, state)
    assert all(g is not None and same(g, expected[f"grad {name}"]) for name, g in got.items())
