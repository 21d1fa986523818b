"""The gradients of a cell's weights over fused steps, which are added up once for many steps."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mannkern import MANN
from tests.helpers import assert_accurate, same
from tests.memories.sequences import BOTH, Sequence, build, episode, evaluate, named, parameters_grads

CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])


def steps(cell: Any, x: Tensor, state: Any = None) -> list[Tensor]:
    """The outputs of the cell on x (T, B, F)."""
    outputs = []
    for step in x:
        output, state = cell(step, state)
        outputs.append(output)
    return outputs


@BOTH
@CONTROLLERS
def test_gradients_of_weights_are_those_of_each_backward_pass(module: type[Sequence], controller: str) -> None:
    """Rows of one pass are no part of another, whichever of the steps and leaves a pass asks for."""
    cell = build(module, controller=controller).cell
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    outputs = steps(cell, x)
    first, last = outputs[0].square().sum(), outputs[2].square().sum()
    kept = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    both = parameters_grads(cell, first + last, **kept)
    torch.autograd.grad(last, [x], retain_graph=True)  # its rows are dropped
    parts = [parameters_grads(cell, loss, **kept) for loss in (first, last, last)]
    torch.testing.assert_close([a + b for a, b, _ in zip(*parts, strict=True)], both, rtol=1e-12, atol=1e-14)
    assert all(map(same, parts[1], parts[2]))
    alone = torch.autograd.grad(last, [cell.interface.bias], retain_graph=True)
    assert same(alone[0], parts[1][[name for name, _ in cell.named_parameters()].index("interface.bias")])


@BOTH
def test_a_backward_pass_within_another(module: type[Sequence]) -> None:
    """A hook that asks for gradients in the middle of a pass, of the same graph, as some optimizers and losses do."""
    cell, x = build(module).cell, torch.randn(3, 2, 3, dtype=torch.float64)
    results = []
    for backend in ("cpp", "reference"):
        cell.backend = backend
        outputs, states, within = [], [], []
        state = None
        for step in x:
            output, state = cell(step, state)
            outputs.append(output)
            states.append(state)
        loss = outputs[0].sum()

        def ask(_: Tensor, loss: Tensor = loss, within: list[Tensor] = within) -> None:
            within += parameters_grads(cell, loss, retain_graph=True, allow_unused=True, materialize_grads=True)

        states[1].memory.register_hook(ask)
        results.append([*parameters_grads(cell, outputs[2].sum()), *within])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@BOTH
def test_backward_passes_of_several_threads(module: type[Sequence]) -> None:
    """Threads that share a graph have the gradients of the one thread that does."""
    cell, x = build(module).cell, torch.randn(20, 2, 3, dtype=torch.float64)
    loss = torch.stack(steps(cell, x)).square().sum()
    expected = parameters_grads(cell, loss, retain_graph=True)
    with ThreadPoolExecutor(4) as pool:
        passes = [pool.submit(parameters_grads, cell, loss, retain_graph=True) for _ in range(8)]
    for one in passes:
        assert all(map(same, one.result(), expected))


@BOTH
@pytest.mark.parametrize("frozen", [["controller", "interface"], ["interface"]])
@pytest.mark.parametrize("at", [0, 1])
def test_weights_frozen_for_a_step(module: type[Sequence], frozen: list[str], at: int) -> None:
    """Each step gives gradients of the weights that required them then."""
    cell, x = build(module).cell, torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for backend in ("cpp", "reference"):
        cell.backend = backend
        state, outputs = None, []
        for t, step in enumerate(x):
            for name in frozen:
                cell.get_submodule(name).requires_grad_(t != at)
            output, state = cell(step, state)
            outputs.append(output)
        results.append(parameters_grads(cell, torch.stack(outputs).square().sum()))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@BOTH
def test_many_rows(module: type[Sequence]) -> None:
    """More rows than one product takes: 9 steps of 130 episodes, one of them without a gradient."""
    model = build(module)
    input, state = episode(model, 9, B=130)
    got = parameters_grads(model.cell, torch.stack(steps(model.cell, input, state)[:8]).square().sum())
    model.cell.backend = "reference"
    expected = parameters_grads(model.cell, torch.stack(steps(model.cell, input, state)[:8]).square().sum())
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@BOTH
def test_many_episodes(module: type[Sequence]) -> None:
    """In float32, inputs above 0: one chain of sums over 32,768 episodes would miss the accuracy rule."""
    model = build(module, (3, 8, 4, 2, 1), torch.float32)
    input, state = torch.rand(2, 32_768, 3), None
    double = copy.deepcopy(model).double()
    truth = evaluate(double, "reference", input.double(), state)
    assert_accurate(evaluate(model, "cells", input, state), truth, evaluate(model, "reference", input, state))


@BOTH
def test_other_weights_within_an_episode(module: type[Sequence]) -> None:
    """Each step's gradient goes to the weights that it had, as MAML changes them within an episode."""
    cell, x = build(module).cell, torch.randn(2, 2, 3, dtype=torch.float64)
    grads = []
    for backend in ("cpp", "reference"):
        cell.backend = backend
        other = {name: (2 * p).detach().requires_grad_() for name, p in cell.named_parameters()}
        _, state = cell(x[0])
        output, _ = torch.func.functional_call(cell, other, (x[1], state))
        grads.append(torch.autograd.grad(output.square().sum(), [*cell.parameters(), *other.values()]))
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


@BOTH
def test_frozen_weights_and_hooks(module: type[Sequence]) -> None:
    """A frozen weight has no gradient; a hook on a parameter runs once, on the sum over the steps."""
    cell, x = build(module).cell, torch.randn(3, 2, 3, dtype=torch.float64)
    expected = dict(zip(dict(cell.named_parameters()), parameters_grads(cell, torch.stack(steps(cell, x)).sum())))
    cell.controller.weight_ih.requires_grad_(False)
    seen: list[Tensor] = []
    cell.interface.weight.register_hook(seen.append)
    torch.stack(steps(cell, x)).sum().backward()
    assert cell.controller.weight_ih.grad is None
    assert len(seen) == 1
    assert same(seen[0], expected["interface.weight"])
    assert all(p.grad is None or same(p.grad, expected[name]) for name, p in cell.named_parameters())


@BOTH
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_for_each_step(module: type[Sequence], use_reentrant: bool) -> None:
    cell, x = build(module).cell, torch.randn(3, 2, 3, dtype=torch.float64)
    expected = parameters_grads(cell, torch.stack(steps(cell, x)).square().sum())

    def flat(x: Tensor, h: Tensor, c: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        output, last = cell(x, state_type((h, c), *others))
        return output, *named(last).values()

    start = cell.initial_state(2)
    state_type, state, outputs = type(start), tuple(named(start).values()), []
    for step in x:
        output, *state = checkpoint(flat, step.clone().requires_grad_(), *state, use_reentrant=use_reentrant)
        outputs.append(output)
    torch.stack(outputs).square().sum().backward()
    torch.testing.assert_close([p.grad for p in cell.parameters()], expected, rtol=1e-12, atol=1e-14)


def test_vectorised_gradients() -> None:
    """Several backward passes at once, as torch.func.vmap runs them."""
    cell = build(MANN).cell
    output = torch.stack(steps(cell, torch.randn(2, 1, 3, dtype=torch.float64))).flatten()
    some = torch.eye(len(output), dtype=torch.float64)[::7]
    got = parameters_grads(cell, output, grad_outputs=some, is_grads_batched=True, retain_graph=True)
    each = [parameters_grads(cell, output, grad_outputs=g, retain_graph=True) for g in some]
    expected = [torch.stack(parts) for parts in zip(*each, strict=True)]
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.slow  # imports the compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # which PyTorch reads itself
@BOTH
@CONTROLLERS
@pytest.mark.parametrize("frozen", [[], ["interface.bias"], ["interface", "controller"]])
def test_compiled_autograd(module: type[Sequence], controller: str, frozen: list[str]) -> None:
    """Under compiled autograd the gradients are those of the engine, as it adds up those of each step."""
    cell = build(module, controller=controller).cell
    for name, parameter in cell.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(frozen)))
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    leaves = [x, *(p for p in cell.parameters() if p.requires_grad)]

    def gradients() -> tuple[Tensor, ...]:
        outputs = steps(cell, x)
        return torch.autograd.grad(outputs[1].square().sum() + outputs[3].sum(), leaves)

    expected = gradients()
    torch._dynamo.reset()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        got = gradients()
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
