"""Cells, and their controllers, in the wrappers of torch.compile, of checkpoints and of FSDP: the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from mannkern import MANN, NTM
from tests.memories.coded import code


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


class Sharded(nn.Module):
    """As FSDP's first version holds what it wraps."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._fsdp_wrapped_module = module

    def forward(self, *args: Any) -> Any:
        return self._fsdp_wrapped_module(*args)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._fsdp_wrapped_module, name)


pytestmark = pytest.mark.filterwarnings("ignore")  # torch.compile's own
MODULES = pytest.mark.parametrize("module", [MANN, NTM])
WRAPPERS = pytest.mark.parametrize("wrap", [compiled, checkpoint_wrapper, Sharded])


def build(module: Any, controller: Any) -> Any:
    torch.manual_seed(0)
    return module(3, 5, 8, 4, 2, controller=controller, dtype=torch.float64)


def check(model: Any, plain: Any) -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    ends = {"reset": torch.tensor([[False, False], [False, True], [True, False], [False, False]])}
    for given in ({}, ends):
        results = []
        for m in (model, plain):
            output, state = m(x, **given)
            more, last = m(x, state)
            results.append((output, more, last.memory))
        for got, expected in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@MODULES
@WRAPPERS
@pytest.mark.parametrize("controller", ["lstm", "feedforward", "gru"])
def test_controller(module: Any, wrap: Callable[[nn.Module], nn.Module], controller: str) -> None:
    torch._dynamo.reset()
    of_cell = {"gru": nn.GRUCell(3 + 2 * 4, 5, dtype=torch.float64)}
    model = build(module, of_cell.get(controller, controller))
    plain = copy.deepcopy(model)
    model.cell.controller = wrap(model.cell.controller)
    check(model, plain)


@pytest.mark.slow
@MODULES
@WRAPPERS
def test_cell(module: Any, wrap: Callable[[nn.Module], nn.Module]) -> None:
    torch._dynamo.reset()
    model = build(module, "lstm")
    plain = copy.deepcopy(model)
    model.cell = wrap(model.cell)
    check(model, plain)


@pytest.mark.parametrize("module", [MANN, NTM])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("only", ["interface", "controller", ""])
def test_weights_that_hold_other_tensors(module: Any, controller: str, backend: str, only: str) -> None:
    """Linear layers of quantised weights compute; the loop is over steps that call them."""
    torch.manual_seed(0)
    model = module(3, 5, 8, 4, 2, controller=controller, backend=backend).requires_grad_(False)
    plain, x = copy.deepcopy(model), torch.randn(4, 2, 3)
    code(model, only)
    torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(model.cell(x[0]), plain.cell(x[0]))
    torch.testing.assert_close(model(x, model.initial_state(2), lengths=[4, 2]), plain(x, lengths=[4, 2]))
    assert model(x[:0])[0].shape == (0, 2, model.output_size)
