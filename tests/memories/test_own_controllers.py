"""Controllers of the user's own: where their episodes start, what their states may be, and their dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM, MANNCell

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
SIZES = (5, 6, 7, 4, 2)  # F, D, N, W, R
SEEN, D = 13, 6  # F + R W


class Unknown(nn.Module):
    """It starts at its parameter where it gets None, which nobody else can know."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.start = nn.GRUCell(SEEN, D), nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.gru(x, self.start.expand(len(x), -1) if state is None else state)
        return h, h


class Known(Unknown):
    def initial_state(self, batch_size: int) -> Tensor:
        return self.start.expand(batch_size, -1)


class Twice(nn.LSTMCell):
    """An LSTM of its own class that starts at ones."""

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        return self.bias_hh.new_ones(batch_size, D), self.bias_hh.new_ones(batch_size, D)


@dataclass
class Hidden:
    h: Tensor


class Opaque(nn.Module):
    """Its state is an object that PyTorch cannot look into."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRUCell(SEEN, D)

    def forward(self, x: Tensor, state: Hidden | None) -> tuple[Tensor, Hidden]:
        h = self.gru(x, None if state is None else state.h)
        return h, Hidden(h)


@MODULES
@pytest.mark.parametrize("controller", [Known, Twice])
def test_example(module: Any, controller: Any) -> None:
    """An episode of no step, continued, is a fresh one, and so is one that starts anew."""
    torch.manual_seed(0)
    model = module(*SIZES, controller=controller(*(() if controller is Known else (SEEN, D))))
    x, y = torch.randn(4, 3, 5), torch.randn(2, 3, 5)
    _, state = model(x, lengths=[0, 4, 2])
    fresh = model(y)[0]
    torch.testing.assert_close(model(y, state)[0][:, 0], fresh[:, 0])
    again, reset = torch.cat([x, y]), torch.zeros(6, 3, dtype=torch.bool)
    reset[4] = True
    torch.testing.assert_close(model(again, reset=reset)[0][4:], fresh)


@MODULES
def test_its_start_learns(module: Any) -> None:
    """The gradient of a start that is a parameter, from each episode that starts there."""
    torch.manual_seed(0)
    model = module(*SIZES, controller=Known())
    x = torch.randn(4, 3, 5)
    model(x, lengths=[4, 0, 2])[0].sum().backward()
    expected = model.cell.controller.start.grad.clone()
    model.zero_grad()
    (model(x[:, :1])[0].sum() + model(x[:2, 2:])[0].sum()).backward()
    torch.testing.assert_close(model.cell.controller.start.grad, expected)


@MODULES
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of an autograd Function
def test_its_start_is_known_to_torch_export(module: Any) -> None:
    """A program for any number of steps needs the state that a scan begins with."""
    torch.manual_seed(0)
    model, x = module(*SIZES, controller=Known()), torch.randn(6, 3, 5)
    longer = torch.randn(9, 3, 5)
    with torch.no_grad():
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("T", min=3)},)).module()
        torch.testing.assert_close(exported(longer)[0], model(longer)[0])


@MODULES
def test_a_start_that_is_not_known_is_refused(module: Any) -> None:
    model, x = module(*SIZES, controller=Unknown()), torch.randn(4, 3, 5)
    model(x, lengths=[1, 4, 2])
    said = "got a Unknown as controller, whose state at the start is not known, need an LSTM"
    with pytest.raises(TypeError, match=f"^lengths of 0: {said}"):
        model(x, lengths=[0, 4, 2])
    with pytest.raises(TypeError, match=f"^reset: {said}"):
        model(x, reset=torch.zeros(4, 3, dtype=torch.bool))
    _, state = model(x)
    model(x, state, lengths=[0, 4, 2])  # a state that goes on is known


@MODULES
def test_a_state_that_cannot_be_looked_into(module: Any) -> None:
    """It carries on from call to call; what has to change its tensors says that it cannot."""
    model = module(*SIZES, controller=Opaque())
    x = torch.randn(4, 3, 5)
    _, state = model(x)
    model(x, state)
    said = r"^state\.controller: got Hidden, need tensors, or tuples, lists or dicts of them$"
    for change in (lambda: state.detach(), lambda: state.to(torch.float64), lambda: model(x[:, 0])):
        with pytest.raises(TypeError, match=said):
            change()


def test_numbers_in_a_state_stay() -> None:
    """A count of steps or a name beside tensors is no tensor to detach."""
    state = MANNCell(*SIZES).initial_state(2)._replace(controller={"h": torch.ones(2, D), "t": 3, "none": None})
    moved = state.to(torch.float64)
    assert moved.controller["h"].dtype == torch.float64
    assert (moved.controller["t"], moved.controller["none"]) == (3, None)


@MODULES
def test_dtype_of_a_controller(module: Any) -> None:
    """A module is taken as it is, so dtype= beside one of another dtype would give a model that cannot run."""
    with pytest.raises(TypeError, match=r"^controller: got torch\.float32, need torch\.float64, as dtype=$"):
        module(*SIZES, controller=nn.GRUCell(SEEN, D), dtype=torch.float64)
    model = module(*SIZES, controller=nn.GRUCell(SEEN, D, dtype=torch.float64), dtype=torch.float64)
    assert model(torch.randn(4, 3, 5, dtype=torch.float64))[0].dtype == torch.float64
    module(*SIZES, controller=nn.GRUCell(SEEN, D))
