"""Fused episodes of MANN and NTM equal a loop over the cell and the reference: outputs, last state, all gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from mannkern import MANN
from tests.helpers import assert_accurate, same, strided
from tests.memories.sequences import (
    BOTH,
    MODULES,
    MOST,
    OPTIONS,
    SIZES,
    Sequence,
    apply,
    assert_close,
    build,
    check,
    episode,
    evaluate,
    named,
    squares,
    zero_interface,
)


@torch.no_grad()
def test_example() -> None:
    """The example of tests/memories/test_cells.py goes on for a second step; slot 1 is least used again.

    Write weights are (1/2, 1/2) / 2 + (0, 1) / 2, so usage becomes 0.99 (1.99, 1) + (1/4, 3/4) + (1/2, 1/2).
    """
    mann = zero_interface(MANN(3, 5, 2, 1, 1, memory_init=4.0, dtype=torch.float64))
    output, state = mann(torch.randn(2, 1, 3, dtype=torch.float64))
    assert output[:, 0, 5].tolist() == [2, 2]
    assert state.memory.flatten().tolist() == [4, 0]
    assert state.usage.flatten().tolist() == pytest.approx([2.7201, 2.24])


@BOTH
@pytest.mark.parametrize("T", [1, 2, 3, 7, 16, 50])
@pytest.mark.usefixtures("isa", "nan_filled_allocations")
def test_equals_its_cells_and_the_reference(module: type[Sequence], T: int) -> None:
    model = build(module)
    check(model, *episode(model, T, B=3))


@pytest.mark.parametrize("T", [4, 7, 50])
@pytest.mark.parametrize(("module", "name"), [(module, name) for module in MODULES for name in OPTIONS[module]])
def test_options(module: type[Sequence], name: str, T: int) -> None:
    options = OPTIONS[module][name]
    model = build(module, **options)
    check(model, *episode(model, T, B=2))


@BOTH
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (7, 13, 33, 17, 3), (2, 3, 3, 5, 6), (20, 200, 128, 40, 4)])
@pytest.mark.usefixtures("isa")
def test_sizes(module: type[Sequence], sizes: tuple[int, ...]) -> None:
    model = build(module, sizes, **MOST[module])
    check(model, *episode(model, 5, B=2))


@BOTH
@pytest.mark.parametrize("memory_init", ["learned", "uniform", 1e-6, 0.0])
@pytest.mark.parametrize("T", [2, 50])
def test_from_the_initial_state(module: type[Sequence], T: int, memory_init: float | str) -> None:
    model = build(module, memory_init=memory_init)
    check(model, episode(model, T, B=2)[0], None)


@BOTH
@pytest.mark.parametrize("B", [0, 1])
def test_few_episodes(module: type[Sequence], B: int) -> None:
    model = build(module)
    check(model, *episode(model, 7, B))
    check(model, episode(model, 7, B)[0], None)


@BOTH
@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("sizes", [SIZES, (40, 64, 128, 40, 4)], ids=["small", "standard_memory"])
@pytest.mark.usefixtures("isa")
def test_accuracy_of_float32(module: type[Sequence], sizes: tuple[int, ...], T: int) -> None:
    model = build(module, sizes, torch.float32, **MOST[module])
    input, state = episode(model, T, B=4)
    truth = evaluate(copy.deepcopy(model).double(), "reference", input.double(), apply(state, Tensor.double))
    if module is MANN:
        assert truth["usage"].sort(-1).values.diff().min() > 1e-5  # rounding chose no slot
    assert_accurate(evaluate(model, "whole", input, state), truth, evaluate(model, "reference", input, state))


@BOTH
def test_no_steps_return_the_state_as_it_came(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 0, B=3)
    got = evaluate(model, "whole", input, state)
    assert got["output"].shape == (0, 3, model.output_size)
    assert all(same(got[name], x) for name, x in named(state).items())
    assert model(input)[0].shape == (0, 3, model.output_size)


@BOTH
def test_no_steps_have_a_backward_pass(module: type[Sequence]) -> None:
    """A loop over segments of which one is empty goes on: its gradients are 0, as those of an empty batch are."""
    for frozen in (False, True):
        model, input = build(module).requires_grad_(not frozen), torch.randn(0, 3, 3, dtype=torch.float64)
        output, _ = model(input.requires_grad_(frozen))
        output.sum().backward()
        weight = model.cell.interface.weight
        assert weight.grad is None if frozen else not weight.grad.any()
        assert input.grad is None if not frozen else input.grad.shape == input.shape


@BOTH
def test_batch_first(module: type[Sequence]) -> None:
    model, first = build(module), build(module, batch_first=True)
    input, state = episode(model, 7, B=3)
    got = evaluate(first, "whole", input.transpose(0, 1), state)
    assert_close(got, evaluate(first, "cells", input.transpose(0, 1).contiguous(), state))
    assert same(got["output"].transpose(0, 1), model(input, state)[0].detach())
    assert first(input.transpose(0, 1)[:, :0])[0].shape == (3, 0, first.output_size)


@BOTH
def test_strided_input_and_state(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 7, B=3)
    got = evaluate(model, "whole", strided(input), apply(state, strided))
    assert_close(got, evaluate(model, "whole", input, state), 1e-14)


@BOTH
@pytest.mark.parametrize("wanted", ["input", "parameters"])
def test_gradients_of_some(module: type[Sequence], wanted: str) -> None:
    model = build(module)
    input, state = episode(model, 7, B=2)
    whole = model(input.clone().requires_grad_(), state)[0]
    part = model if wanted == "parameters" else copy.deepcopy(model).requires_grad_(False)
    x = input.clone().requires_grad_(wanted == "input")
    output = part(x, state)[0]
    output.square().sum().backward()
    assert same(output, whole)
    got = {"input": x.grad} if wanted == "input" else {name: p.grad for name, p in part.named_parameters()}
    expected = squares(model, input, state)
    assert all(g is not None and same(g, expected[f"grad {name}"]) for name, g in got.items())


@BOTH
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_a_wide_input(module: type[Sequence], controller: str) -> None:
    """In float32, numbers above 0: one chain of sums over 30,000 inputs would miss the accuracy rule."""
    model = build(module, (30_000, 8, 16, 8, 2), torch.float32, controller=controller)
    first = model.cell.controller.weight_ih if controller == "lstm" else model.cell.controller.linear.weight
    with torch.no_grad():
        first[:, :30_000].abs_()
    input = 0.05 * torch.rand(2, 3, 30_000)
    truth = evaluate(copy.deepcopy(model).double(), "reference", input.double(), None)
    reference = evaluate(model, "reference", input, None)
    for how in ("whole", "cells"):
        assert_accurate(evaluate(model, how, input, None), truth, reference)
