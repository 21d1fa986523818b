"""The repr of cells and sequence modules, and their errors, which name the argument."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mannkern import MANN, NTM, MANNCell, NTMCell
from tests.memories.test_cells import CELLS, EVERY, MODULES, SIZES, build


def test_example() -> None:
    """A cell of three features says what came, two episodes of four, and what it needs."""
    with pytest.raises(ValueError, match=r"^input: got shape \(2, 4\), need \(B, F\) or \(F\) with F = 3$"):
        MANNCell(3, 5)(torch.zeros(2, 4))


def test_repr_shows_every_size() -> None:
    text = repr(
        MANN(101, 102, 103, 104, 105, num_least_used=106 - 50, decay=0.5, memory_init="learned", batch_first=True)
    )
    for part in ("101", "102", "=103", "=104", "=105", "=56", "'shared'", "=0.5", "'learned'", "batch_first=True"):
        assert part in text
    text = repr(NTM(101, 102, 103, 104, 5, 6, 7, memory_init="learned", batch_first=True))
    for part in ("101", "102", "=103", "=104", "heads=5", "heads=6", "range=7", "'learned'", "batch_first=True"):
        assert part in text


SHARED: dict[str, tuple[Any, type[Exception]]] = {
    "input_size": (0, ValueError),
    "hidden_size": (2.0, TypeError),
    "memory_slots": (-1, ValueError),
    "memory_width": (True, TypeError),
    "memory_init": ("zeros", ValueError),
    "controller": ("gru", ValueError),
    "backend": ("fast", ValueError),
}
BAD: dict[type, dict[str, tuple[Any, type[Exception]]]] = {
    MANN: SHARED
    | {
        "num_reads": ("4", TypeError),
        "num_least_used": (9, ValueError),
        "least_used": ("head", ValueError),
        "decay": (1.5, ValueError),
        "write": ("value", ValueError),
    },
    NTM: SHARED
    | {
        "num_read_heads": (0, ValueError),
        "num_write_heads": (1.0, TypeError),
        "shift_range": (-1, ValueError),
    },
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, bad in BAD.items() for name in bad])
def test_bad_arguments(module: type, name: str) -> None:
    value, error = BAD[module][name]
    sizes = dict(zip(("input_size", "hidden_size", "memory_slots", "memory_width"), SIZES))
    with pytest.raises(error, match=f"^{name}: got {value!r}|^{name}: got {type(value).__name__}"):
        module(**{**sizes, name: value})


def test_a_backend_and_an_order_that_are_none() -> None:
    with pytest.raises(TypeError, match=r"^batch_first: got str, need True or False"):
        MANN(*SIZES, batch_first="no")  # type: ignore[arg-type]
    model = NTM(*SIZES)
    with pytest.raises(ValueError, match=r"^backend: got 'CPP', need 'auto' or one of 'reference', 'cpp'"):
        model.backend = "CPP"
    assert model.backend is None


class Own(nn.Module):
    """A controller whose call returns what it is told, whatever it sees."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, input: Any, state: Any) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (torch.zeros(2, 5), TypeError, "got a tensor from its call, need (hidden (B, D), state)"),
        (None, TypeError, "got NoneType from its call"),
        (([1.0], None), TypeError, "got tuple from its call"),
        ((torch.zeros(2, 7), None), ValueError, "got hidden of shape (2, 7) from its call, need (B, D) = (2, 5)"),
        ((torch.zeros(5), None), ValueError, "got hidden of shape (5,) from its call"),
    ],
    ids=str,
)
@CELLS
def test_what_a_controller_must_return(
    result: Any, error: type[Exception], message: str, cell_type: type, sequence: type
) -> None:
    for module, shape in ((cell_type, (2, 3)), (sequence, (4, 2, 3))):
        with pytest.raises(error, match="^" + re.escape("controller: " + message)):
            module(*SIZES, controller=Own(result))(torch.zeros(shape))


@CELLS
@pytest.mark.parametrize(
    "controller", [nn.LSTMCell(11, 6), nn.LSTMCell(10, 5), nn.GRUCell(11, 6), nn.LSTM(11, 5)], ids=repr
)
def test_controllers_of_the_wrong_size(controller: nn.Module, cell_type: type, sequence: type) -> None:
    for module in (cell_type, sequence):
        with pytest.raises((ValueError, TypeError), match="controller"):
            module(*SIZES, controller=controller)


@EVERY
def test_bad_inputs(module: type, shape: tuple[int, ...]) -> None:
    module_ = build(module)
    for bad in (torch.zeros(*shape[:-1], 4), torch.zeros(4), torch.zeros(()), torch.zeros(1, *shape), [1.0]):
        with pytest.raises((ValueError, TypeError), match=r"^input: got"):
            module_(bad)
    for dtype in (torch.float32, torch.int64):
        with pytest.raises(TypeError, match=r"^input: got .*, need torch.float64"):
            module_(torch.zeros(shape, dtype=dtype))
    with pytest.raises(ValueError, match=r"^batch_size: got -1"):
        module_.initial_state(-1)


STATES: dict[str, Callable[[Any], Any]] = {
    "controller": lambda s: s._replace(controller=(s.controller[0][:2], s.controller[1][:2])),
    "memory": lambda s: s._replace(memory=s.memory[:, :7]),
    "read_weights": lambda s: s._replace(read_weights=s.read_weights[:2]),
    "usage": lambda s: s._replace(usage=s.usage.float()),
    "write_weights": lambda s: s._replace(write_weights=s.write_weights.expand(6, 2, 8)),
    "read": lambda s: s._replace(read=s.read[..., :3]),
    "state": tuple,
}


@pytest.mark.parametrize(
    ("module", "shape", "name"),
    [
        (module, shape, name)
        for module, shape in MODULES.items()
        for name in STATES
        if name != ("usage" if issubclass(module, NTM | NTMCell) else "write_weights")
    ],
)
def test_bad_states(module: type, shape: tuple[int, ...], name: str) -> None:
    module_ = build(module)
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b.*: got .*need"):
        module_(torch.zeros(shape, dtype=torch.float64), STATES[name](module_.initial_state(shape[-2])))


@EVERY
def test_values_that_are_missing(module: type, shape: tuple[int, ...]) -> None:
    """A part of the state, or one weight, is on meta: nothing is computed from memory that nobody wrote."""
    model, x = build(module), torch.zeros(shape, dtype=torch.float64)
    state = model.initial_state(shape[-2])
    for part in state._fields:
        bare = {part: torch.utils._pytree.tree_map(lambda t: t.to("meta"), getattr(state, part))}
        with pytest.raises(ValueError, match=rf"^state\.{part}.*: got device meta, need cpu"):
            model(x, state._replace(**bare))
    for name in dict(model.named_parameters()):
        bare_model, (path, _, last) = copy.deepcopy(model), name.rpartition(".")
        bare_model.get_submodule(path)._parameters[last] = nn.Parameter(model.get_parameter(name).to("meta"))
        with pytest.raises(ValueError, match=r"got device (meta|cpu), need (cpu|meta)|got device meta, which has no"):
            bare_model(x)


@EVERY
def test_a_state_of_another_batch(module: type, shape: tuple[int, ...]) -> None:
    model = build(module)
    with pytest.raises(ValueError, match=r"^state\.memory: got .*need"):
        model(torch.zeros(shape, dtype=torch.float64), model.initial_state(5))


@pytest.mark.parametrize(
    ("cell", "state_of"),
    [
        (NTMCell(5, 7, 9, 6, 3, 1), NTMCell(17, 7, 9, 6, 1, 2)),
        (MANNCell(5, 7, 9, 2, 4, write="key"), MANNCell(7, 7, 9, 2, 3, write="key")),
    ],
    ids=["NTM", "MANN"],
)
def test_an_input_and_a_state_that_are_wrong_together(cell: Any, state_of: Any) -> None:
    """The widths [x, r] of both cells are equal, and so are their interface vectors."""
    with pytest.raises(ValueError, match=r"^input: got shape .*, need \(B, F\) or \(F\) with F = 5$"):
        cell(torch.zeros(2, state_of.input_size), state_of.initial_state(2))


@pytest.mark.parametrize("controller", [nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("cell_type", [MANNCell, NTMCell])
def test_a_state_of_one_tensor(cell_type: Any, controller: type[nn.RNNCellBase]) -> None:
    """It is checked as that of an LSTM is, and gets the dtype of the parameters."""
    cell = cell_type(3, 5, 8, 4, 1, controller=controller(3 + 4, 5))
    _, state = cell(torch.randn(2, 3))
    for wrong, error, said in (
        (torch.zeros(1, 5), ValueError, r"got shape \(1, 5\), need \(B, D\) = \(2, 5\)"),
        (torch.zeros(2, 5, dtype=torch.int64), TypeError, "got torch.int64, need torch.float32"),
        ((state.controller,), TypeError, r"got tuple, need a tensor \(B, D\)"),
    ):
        with pytest.raises(error, match=f"^state.controller: {said}"):
            cell(torch.randn(2, 3), state._replace(controller=wrong))
    _, after = cell(torch.randn(2, 3), state._replace(controller=state.controller.bfloat16()))
    assert after.controller.dtype == torch.float32
