"""Muon: against the formula in float64, for the gates of an LSTM one by one, and beside Adam."""

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import make_model
from mannkern.training.muon import Muon, orthogonalized, parts_of_matrices


def turned(x: Tensor) -> Tensor:
    """Three Newton-Schulz iterations on the singular values of x, in float64."""
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(3):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (1, 4), (4, 1)])
def test_orthogonalized_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalized(x).double(), turned(x), rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(orthogonalized(x.double()))
    assert 0.6 < values.max() < 1.25
    torch.testing.assert_close(orthogonalized(1e-12 * x), orthogonalized(x), rtol=1e-4, atol=1e-5)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonalized(torch.zeros(3, 4)), torch.zeros(3, 4))
    x = torch.randn(4, 6)
    x[:, 4:] = 0
    assert torch.equal(orthogonalized(x)[:, 4:], torch.zeros(4, 2))


def test_two_steps_of_a_linear_layer_by_the_formula() -> None:
    layer = nn.Linear(3, 7).double()
    weight, bias = layer.weight.detach().clone(), nn.Parameter(layer.bias.detach().clone())
    optimizer, adam = Muon(layer, 0.02), torch.optim.Adam([bias], lr=0.02)
    momentum = torch.zeros_like(weight)
    for step in range(2):
        layer.weight.grad = torch.randn(7, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        layer.bias.grad = bias.grad = torch.randn(7, dtype=torch.float64)
        momentum = 0.9 * momentum + 0.1 * layer.weight.grad
        weight -= 2 * 0.02 * (7 / 3) ** 0.5 * turned(0.1 * layer.weight.grad + 0.9 * momentum)
        optimizer.step()
        adam.step()
    torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.bias, bias, rtol=1e-12, atol=1e-12)


def test_a_wide_matrix_takes_steps_of_its_learning_rate() -> None:
    layer = nn.Linear(6, 2, bias=False).double()
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(2, 6, dtype=torch.float64)
    Muon(layer, 0.01).step()
    torch.testing.assert_close(before - layer.weight.detach(), 0.02 * turned(layer.weight.grad))


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_each_gate_is_a_matrix(kind: type[nn.RNNCellBase], gates: int) -> None:
    cell = kind(3, 5)
    before = cell.weight_ih.detach().clone()
    for x in cell.parameters():
        x.grad = torch.randn_like(x)
    Muon(cell, 0.01).step()
    for was, now, gradient in zip(
        before.chunk(gates), cell.weight_ih.detach().chunk(gates), cell.weight_ih.grad.chunk(gates), strict=True
    ):
        torch.testing.assert_close((was - now).double(), 0.02 * (5 / 3) ** 0.5 * turned(gradient), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("mann", {"recurrent.cell.controller.weight_ih", "recurrent.cell.controller.weight_hh"}),
        ("lstm", {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0"}),
        ("feedforward", {"recurrent.0.weight"}),
    ],
)
def test_the_matrices_of_models(model: str, names: set[str]) -> None:
    """All weights but the head's; no bias and no learned memory."""
    network = make_model(OneShotConfig(task="glyphs", model=model, memory_init="learned"))
    parts = parts_of_matrices(network)
    found = {name: parts[x] for name, x in network.named_parameters() if x in parts}
    interface = {"recurrent.cell.interface.weight": 1} if model == "mann" else {}
    assert found == dict.fromkeys(names, 1 if model == "feedforward" else 4) | interface


def test_a_parameter_without_a_gradient_stays_and_gradients_are_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    before = [x.detach().clone() for x in model.parameters()]
    model[1](torch.randn(2, 3)).sum().backward()
    Muon(model, 0.1).step()
    for x, was in zip(model[0].parameters(), before[:2], strict=True):
        assert torch.equal(x, was)
    for x, was in zip(model[1].parameters(), before[2:], strict=True):
        assert not torch.equal(x, was)
        assert x.grad is not None


def test_frozen_parameters_take_no_part() -> None:
    model = nn.Linear(3, 3)
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    optimizer = Muon(model, 0.1)
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, before)


def test_a_state_dict_brings_the_momentum_back() -> None:
    def stepped(steps: int, state: dict[str, object] | None = None, model: nn.Linear | None = None) -> nn.Linear:
        model = model or linear()
        optimizer = Muon(model, 0.1)
        if state:
            optimizer.load_state_dict(state)
        for step in range(steps):
            generator = torch.Generator().manual_seed(step + (2 if state else 0))
            for x in model.parameters():
                x.grad = torch.randn(x.shape, generator=generator)
            optimizer.step()
        states.append(optimizer.state_dict())
        return model

    def linear() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(4, 3)

    states: list[dict[str, object]] = []
    straight = stepped(4)
    half = stepped(2)
    resumed = stepped(2, states[-1], half)
    for x, y in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(x, y)
