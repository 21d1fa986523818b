"""States and modules in files: torch.load(weights_only=True), and torch.export with its own files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mannkern import MANN, NTM
from tests.helpers import same
from tests.memories.sequences import named

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])


def build(module: Any, controller: str, backend: str) -> Any:
    torch.manual_seed(0)
    return module(3, 5, 8, 4, 2, controller=controller, backend=backend)


def assert_states_equal(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    assert named(got).keys() == named(expected).keys()
    for name, x in named(expected).items():
        assert same(named(got)[name].detach(), x.detach()), name


@MODULES
@CONTROLLERS
@BACKENDS
def test_a_state_in_a_file(module: Any, controller: str, backend: str, tmp_path: Path) -> None:
    model = build(module, controller, backend)
    _, state = model(torch.randn(4, 2, 3))
    torch.save({"state": state}, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)["state"]
    assert_states_equal(loaded, state)
    model(torch.randn(4, 2, 3), loaded)


@MODULES
@CONTROLLERS
def test_a_state_is_a_pytree(module: Any, controller: str) -> None:
    state = build(module, controller, "cpp").initial_state(2)
    doubled = tree_map_only(Tensor, lambda x: 2 * x, state)
    assert type(doubled) is type(state)
    for name, x in named(state).items():
        assert same(named(doubled)[name], 2 * x), name


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("with_state", [False, True])
def test_an_exported_module_in_a_file(module: Any, controller: str, backend: str, with_state: bool) -> None:
    model = build(module, controller, backend)
    with torch.no_grad():
        _, state = model(torch.randn(4, 2, 3))
    arguments = torch.randn(4, 2, 3), *([state] if with_state else [])
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, arguments), file)
    file.seek(0)
    output, state = torch.export.load(file).module()(*arguments)
    expected, expected_state = model(*arguments)
    assert same(output.detach(), expected.detach())
    assert_states_equal(state, expected_state)


@MODULES
@CONTROLLERS
@BACKENDS
def test_an_exported_cell_in_a_file(module: Any, controller: str, backend: str) -> None:
    cell = build(module, controller, backend).cell
    arguments = torch.randn(2, 3), cell.initial_state(2)
    file = io.BytesIO()
    program = torch.export.export(cell, arguments)
    torch.export.save(program, file)
    file.seek(0)
    output, state = torch.export.load(file).module()(*arguments)
    expected, expected_state = program.module()(*arguments)
    assert same(output.detach(), expected.detach())
    assert_states_equal(state, expected_state)
    torch.testing.assert_close(output, cell(*arguments)[0])  # a cell's own call may be one operation, in other order
