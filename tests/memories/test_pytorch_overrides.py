"""Hooks on a cell, subclasses that override a step, and another module as interface: the compiled loop steps aside."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune

from mannkern import MANN, NTM, MANNCell, NTMCell
from mannkern.memories.sequence import MemorySequence
from tests.helpers import same
from tests.memories.sequences import loop

CELLS = pytest.mark.parametrize("cell_type", [MANNCell, NTMCell])
MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
SIZES = (3, 5, 8, 4, 2)


def is_compiled(model: Any, output: Tensor) -> bool:
    return "EpisodeFunction" in type(output.grad_fn).__name__


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("hook", ["register_forward_pre_hook", "register_forward_hook", "register_full_backward_hook"])
def test_hooks_of_a_cell_are_called(module: Any, controller: str, backend: str, hook: str) -> None:
    model, calls = module(*SIZES, controller=controller, backend=backend), []
    x = torch.randn(4, 2, 3, requires_grad=True)
    expected = model(x)[0]
    handle = getattr(model.cell, hook)(lambda *_: calls.append(1))
    output = model(x)[0]
    output.sum().backward()
    assert len(calls) == 4
    torch.testing.assert_close(output, expected)
    handle.remove()
    assert same(model(x)[0].detach(), expected.detach())


@MODULES
@BACKENDS
def test_what_a_hook_returns_is_the_output(module: Any, backend: str) -> None:
    model = module(*SIZES, backend=backend)
    model.cell.register_forward_hook(lambda cell, arguments, results: (0 * results[0] + 7, results[1]))
    assert (model(torch.randn(4, 2, 3))[0] == 7).all()


def overriding(cell_type: Any, method: str) -> Any:
    """A subclass whose method doubles the hidden state, or the output."""

    class Mine(cell_type):  # type: ignore[misc]
        pass

    def changed(self: Any, *arguments: Any) -> Any:
        if method == "interface_vector":
            return getattr(cell_type, method)(self, 2 * arguments[0])
        first, *others = getattr(cell_type, method)(self, *arguments)
        return (2 * first, *others)

    class Mixin:
        pass

    setattr(Mixin, method, changed)
    return type("Mixed", (Mixin, Mine), {})


@CELLS
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("method", ["forward", "step", "interface_vector", "run_controller"])
def test_overrides_count(cell_type: Any, controller: str, backend: str, method: str) -> None:
    cell = overriding(cell_type, method)(*SIZES, controller=controller, backend=backend)
    model, x = MemorySequence(cell), torch.randn(4, 2, 3)
    output, state = model(x)
    expected, expected_state = loop(model, x, None)
    assert same(output.detach(), expected.detach())
    assert same(state.memory.detach(), expected_state.memory.detach())
    plain = MemorySequence(cell_type(*SIZES, controller=controller, backend=backend))
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(plain(x)[0], output)


@CELLS
@pytest.mark.parametrize("whose", ["class", "object"])
def test_first_weights_of_ones_own_count_where_an_episode_starts_anew(cell_type: Any, whose: str) -> None:
    def uniform(self: Any, like: Tensor, *sizes: int) -> Tensor:
        return like.new_full((*sizes, self.memory_slots), 1 / self.memory_slots)

    kind = type("Uniform", (cell_type,), {"first_weights": uniform} if whose == "class" else {})
    cell = kind(*SIZES, memory_init="uniform", backend="cpp", dtype=torch.float64)
    if whose == "object":
        cell.first_weights = types.MethodType(uniform, cell)
    model, x = MemorySequence(cell), torch.randn(4, 2, 3, dtype=torch.float64)
    anew = model(x, reset=torch.tensor([[False] * 2, [False] * 2, [True] * 2, [False] * 2]))[0]
    torch.testing.assert_close(anew[2:], model(x[2:])[0], rtol=1e-12, atol=1e-14)


@MODULES
@pytest.mark.parametrize("part", ["whole", "cell"])
def test_hooks_of_all_modules_are_called(module: Any, part: str) -> None:
    """Those of torch.nn.modules.module, which debuggers and trackers of modules use."""
    results = []
    for backend in ("cpp", "reference"):
        torch.manual_seed(0)
        model = module(*SIZES, backend=backend, dtype=torch.float64)
        called = model if part == "whole" else model.cell
        x = torch.ones((4, 2, 3) if part == "whole" else (2, 3), dtype=torch.float64)
        plain = called(x)[0]
        handle = register_module_forward_hook(lambda m, _, out: 2 * out if type(m) is nn.Linear else None)
        try:
            results.append(called(x)[0])
        finally:
            handle.remove()
        assert not torch.allclose(results[-1], plain)
        assert same(called(x)[0].detach(), plain.detach())
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@CELLS
def test_a_subclass_that_overrides_no_step_stays_compiled(cell_type: Any) -> None:
    model = MemorySequence(type("Named", (cell_type,), {"name": "mine"})(*SIZES, backend="cpp"))
    assert is_compiled(model, model(torch.randn(4, 2, 3))[0])


@CELLS
@pytest.mark.parametrize("method", ["forward", "step"])
def test_a_method_of_one_object_counts(cell_type: Any, method: str) -> None:
    cell = cell_type(*SIZES, backend="cpp")
    expected = 2 * MemorySequence(cell)(torch.ones(1, 2, 3))[0]

    def doubled(self: Any, *arguments: Any) -> Any:
        first, *others = getattr(cell_type, method)(self, *arguments)
        return (2 * first, *others)

    setattr(cell, method, types.MethodType(doubled, cell))
    torch.testing.assert_close(MemorySequence(cell)(torch.ones(1, 2, 3))[0], expected)


class LowRank(nn.Module):
    """A frozen linear layer plus a product of two small ones, as LoRA adds; it has no weight of its own."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, dtype=base.weight.dtype)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


@MODULES
@CONTROLLERS
@BACKENDS
def test_another_module_as_interface(module: Any, controller: str, backend: str) -> None:
    model = module(*SIZES, controller=controller, backend=backend, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    expected, expected_state = model(x)
    model.cell.interface = LowRank(model.cell.interface)
    output, state = model(x)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.memory, expected_state.memory, rtol=1e-12, atol=1e-12)
    output, _ = model.cell(x[0], state)
    output.square().sum().backward()
    assert model.cell.interface.up.weight.grad.count_nonzero() > 0
    assert model.cell.interface.base.weight.grad is None
    model.cell.reset_parameters()
    with pytest.raises(TypeError, match=r"^input: got torch.float32, need torch.float64"):
        model(x.float())


def test_a_cell_without_a_float_parameter_says_so() -> None:
    """As torch.ao.quantization.quantize_dynamic leaves it: all its linear layers hold integers."""
    cell = MANNCell(3, 4, 5, 2, 1, controller="feedforward")
    for module in (cell.controller, cell):
        for name in ("linear", "interface"):
            if hasattr(module, name):
                setattr(module, name, nn.Identity())
    with pytest.raises(TypeError, match=r"^cell: got no parameter of a float type, need one"):
        cell(torch.zeros(2, 3))


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("part", ["interface", "controller"])
def test_a_forward_given_to_one_object_counts(module: Any, controller: str, backend: str, part: str) -> None:
    """As libraries wrap modules: ``module.forward = wrapped``."""
    model = module(*SIZES, controller=controller, backend=backend)
    wrapped, calls = getattr(getattr(model, "cell", model), part), []
    forward = wrapped.forward

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return forward(*arguments)

    wrapped.forward = counted
    model(torch.randn(4, 2, 3))
    model.cell(torch.randn(2, 3))
    assert len(calls) == 5


@MODULES
@BACKENDS
def test_a_pruned_interface_moves_to_another_dtype(module: Any, backend: str) -> None:
    model = module(*SIZES, backend=backend)
    prune.l1_unstructured(model.cell.interface, "weight", 0.5)
    output, state = model.double()(torch.randn(4, 2, 3, dtype=torch.float64))
    assert output.dtype == state.memory.dtype == torch.float64
