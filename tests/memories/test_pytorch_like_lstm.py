"""What torch.nn.LSTM and LSTMCell have: input without a batch, layers, dropout, sizes, types, in-place operations."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import MANN, NTM, MANNCell, NTMCell
from mannkern.memories.sequence import MemorySequence
from tests.helpers import same
from tests.memories.sequences import named

CELLS = pytest.mark.parametrize("cell_type", [MANNCell, NTMCell])
MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])


def build(module: Any, controller: str = "lstm", backend: str = "cpp", **options: Any) -> Any:
    torch.manual_seed(0)
    return module(3, 5, 8, 4, 2, controller=controller, backend=backend, dtype=torch.float64, **options)


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64)


def close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_example() -> None:
    """A sequence of three steps without a batch has an output for each, and a memory of eight slots."""
    output, state = MANN(3, 5, 8, 4, 2)(torch.zeros(3, 3))
    assert output.shape == (3, 13)
    assert state.memory.shape == (8, 4)


def first(results: tuple[Tensor, Any], batch: int) -> tuple[Tensor, list[Tensor]]:
    """The first episode of a batch of one: output, and the parts of the state."""
    output, state = results
    return output.select(batch, 0), [x[0] for x in named(state).values()]


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_a_sequence_without_a_batch(module: Any, controller: str, backend: str, batch_first: bool) -> None:
    model, x = build(module, controller, backend, batch_first=batch_first), draw(4, 3)
    batch = 0 if batch_first else 1
    with_batch = model(x.unsqueeze(batch))
    output, state = model(x)
    close((output, list(named(state).values())), first(with_batch, batch))
    further, last = model(x, state)
    close((further, list(named(last).values())), first(model(x.unsqueeze(batch), with_batch[1]), batch))
    further.sum().backward()


@CELLS
@CONTROLLERS
@BACKENDS
def test_a_cell_without_a_batch(cell_type: Any, controller: str, backend: str) -> None:
    cell, x = build(cell_type, controller, backend), draw(3)
    output, state = cell(x)
    close((output, list(named(state).values())), first(cell(x.unsqueeze(0)), 0))
    assert cell(x, state)[0].shape == (13,)


@CELLS
@BACKENDS
def test_no_input_means_zeros(cell_type: Any, backend: str) -> None:
    cell = build(cell_type, backend=backend)
    for batch in ((2,), ()):
        _, state = cell(draw(*batch, 3))
        close(cell(None, state), cell(torch.zeros(*batch, 3, dtype=torch.float64), state))
    with pytest.raises(TypeError, match=r"^input: got None beside state NoneType, need"):
        cell(None)


@MODULES
def test_a_state_with_a_batch_beside_an_input_without(module: Any) -> None:
    for model, x in ((build(module), draw(4, 3)), (build(module).cell, draw(3))):
        with pytest.raises(ValueError, match=r"^state\.memory: got shape \(2, 8, 4\), need \(N, W\)"):
            model(x, model.initial_state(2))


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_layers(module: Any, controller: str, backend: str, batch_first: bool) -> None:
    """They are single layers one after the other, and their state is a tuple."""
    model = build(module, controller, backend, batch_first=batch_first, num_layers=3)
    x, states, expected = draw(4, 2, 3), [], []
    for _ in range(2):
        y, lasts = x, []
        for i, cell in enumerate(model.cells):
            y, last = MemorySequence(cell, batch_first=batch_first)(y, states[i] if states else None)
            lasts.append(last)
        output, state = model(x, tuple(states) if states else None)
        expected, states = y, lasts
        close(output, expected)
        assert type(state) is tuple
        close([list(named(s).values()) for s in state], [list(named(s).values()) for s in states])
    output.sum().backward()
    assert all(p.grad is not None for cell in model.cells for p in cell.controller.parameters())
    close(model(x, model.initial_state(x.shape[0 if batch_first else 1])), model(x))
    assert [len(named(s)["memory"].shape) for s in model(draw(4, 3))[1]] == [2, 2, 2]


@MODULES
def test_layers_in_files_and_copies(module: Any) -> None:
    model, x = build(module, num_layers=2), draw(4, 2, 3)
    other = module(3, 5, 8, 4, 2, num_layers=2, backend="cpp", dtype=torch.float64)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(twin(x)[0].detach(), model(x)[0].detach())
    one = build(module)
    one.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("cell.")})
    assert "num_layers=2" in repr(model)
    assert "num_layers" not in repr(one)
    other.reset_parameters()
    assert not same(other.upper_layers[0].cell.interface.weight, model.upper_layers[0].cell.interface.weight)


@MODULES
@BACKENDS
def test_dropout(module: Any, backend: str) -> None:
    """It acts between layers, in training alone."""
    model, x = build(module, backend=backend, num_layers=2, dropout=0.5), draw(4, 2, 3)
    lower = MemorySequence(model.cell)(x)[0]
    torch.manual_seed(1)
    dropped = F.dropout(lower, 0.5)
    torch.manual_seed(1)
    close(model(x)[0], model.upper_layers[0](dropped)[0])
    close(model.eval()(x)[0], model.upper_layers[0](lower)[0])


@MODULES
def test_bad_layers(module: Any) -> None:
    for options, error, text in (
        ({"num_layers": 0}, ValueError, "num_layers: got 0, need at least 1"),
        ({"num_layers": 2.0}, TypeError, "num_layers: got float, need an integer"),
        ({"num_layers": 2, "dropout": 2}, ValueError, "dropout: got 2, need a number from 0 to 1"),
        ({"num_layers": 2, "dropout": "half"}, ValueError, "dropout: got 'half', need a number from 0 to 1"),
    ):
        with pytest.raises(error, match=f"^{text}"):
            build(module, **options)
    with pytest.raises(ValueError, match=r"^num_layers: got 2 beside a controller of your own, need 1"):
        module(3, 5, 8, 4, 2, controller=nn.GRUCell(11, 5), num_layers=2)
    with pytest.warns(UserWarning, match=r"^dropout: got 0\.5 with num_layers = 1"):
        build(module, dropout=0.5)
    model = build(module, num_layers=2)
    one = build(module).initial_state(2)
    for state, got in ((one, type(one).__name__), ((one,), "1 states"), ([one] * 3, "3 states"), (3, "int")):
        with pytest.raises(TypeError, match=f"^state: got {got}, need a tuple of 2"):
            model(draw(4, 2, 3), state)


@MODULES
@CONTROLLERS
def test_methods_of_a_state(module: Any, controller: str) -> None:
    _, state = build(module, controller)(draw(4, 2, 3))
    assert state.memory.requires_grad
    detached = state.detach()
    assert type(detached) is type(state)
    assert not any(x.requires_grad for x in named(detached).values())
    for moved in (state.to(torch.float32), state.to("cpu", torch.float32), state.to(dtype=torch.float32)):
        assert type(moved) is type(state)
        assert {x.dtype for x in named(moved).values()} == {torch.float32}
    assert {x.device.type for x in named(state.to("meta")).values()} == {"meta"}
    assert all(state.to("cpu")[i] is state[i] for i in range(1, 5))


def test_sizes_are_those_of_the_cell() -> None:
    mann = MANN(3, 5, 8, 4, 2, num_least_used=1, least_used="per_head", decay=0.5, key_strength=True, backend="cpp")
    shared = ["input_size", "hidden_size", "memory_slots", "memory_width", "memory_init", "backend", "output_size"]
    for name in [*shared, "num_reads", "num_least_used", "least_used", "decay", "key_strength"]:
        assert getattr(mann, name) == getattr(mann.cell, name)
    ntm = NTM(3, 5, 8, 4, 2, 3, 2)
    for name in [*shared, "num_read_heads", "num_write_heads", "shift_range"]:
        assert getattr(ntm, name) == getattr(ntm.cell, name)


@MODULES
def test_parameters_are_drawn_again(module: Any) -> None:
    model = build(module, memory_init="learned")
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    model.reset_parameters()
    torch.manual_seed(0)
    model.cell.reset_parameters()
    assert all(not same(x, before[name]) for name, x in model.state_dict().items() if "weight" in name)


@MODULES
@BACKENDS
def test_in_place_operations(module: Any, backend: str) -> None:
    """On the output they work, or autograd says that the gradient reads it, as of nn.LSTM; on the state they work."""
    model, x = build(module, backend=backend), draw(4, 2, 3)
    output, _ = model(x)
    output.add_(1)
    if backend == "reference":
        output.square().sum().backward()
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.square().sum().backward()
    output, state = model(x)
    expected = torch.autograd.grad(((state.read + 1) * 2).sum() + output.sum(), list(model.parameters()))
    output, state = model(x)
    got = state.read.add_(1).mul_(2).sum() + output.sum()
    close(torch.autograd.grad(got, list(model.parameters())), expected)
    with torch.no_grad():
        model(x)[0].add_(1)


TYPED = """
import torch
from mannkern import MANN, NTM, MANNCell, MANNState, NTMCell, NTMState
x = torch.zeros(2, 3)
a: tuple[torch.Tensor, MANNState] = MANN(3, 5)(x)
b: tuple[torch.Tensor, MANNState] = MANNCell(3, 5)(x, a[1].detach())
c: tuple[torch.Tensor, NTMState] = NTM(3, 5)(x)
d: tuple[torch.Tensor, NTMState] = NTMCell(3, 5)(None, c[1].to("cpu"))
cells: tuple[MANNCell, NTMCell] = MANN(3, 5, device=0).cell, NTM(3, 5).cell
"""


@pytest.mark.slow
def test_types(tmp_path: Path) -> None:
    """Mypy sees what a call takes and returns."""
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(TYPED + "MANN(3, 5)(3)\nMANNCell(3, 5)(x, c[1])\nb[1].missing\n")
    runs = [
        subprocess.run(
            [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path), tmp_path / file],
            capture_output=True,
            text=True,
        )
        for file in ("right.py", "wrong.py")
    ]
    assert runs[0].returncode == 0, runs[0].stdout
    assert "Found 3 errors" in runs[1].stdout


@MODULES
def test_the_backend_of_all_layers_is_set_at_once(module: Any) -> None:
    model = build(module, num_layers=2)
    assert model.backend == "cpp"
    model.backend = "reference"
    assert [cell.backend for cell in model.cells] == ["reference", "reference"]
