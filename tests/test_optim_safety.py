"""Muon where a gradient vanishes or is missing, and with parameters of unusual layouts, groups and dtypes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mannkern.optim import Muon, orthogonalized


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 6), (5, 40), (40, 5)])
def test_a_vanishing_matrix_takes_a_vanishing_step(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Squares of its numbers are 0, so its norm is too, or wrong; the result must not become large by that."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for size in (1e-9, 1e-12, 1e-20, 1e-24, 1e-38, 1e-45, 1e-170, 1e-310):
        values = torch.linalg.svdvals(orthogonalized(size * x))
        assert values.max() <= 60 * size / 1e-7 * torch.linalg.svdvals(x).max() + 1e-37, "41 at most, of x / 1e-7"


def test_a_layer_without_gradients_comes_to_rest() -> None:
    """Its momentum falls by a tenth a step: it makes full steps while that is a direction, then smaller ones."""
    layer = nn.Linear(8, 8)
    optimizer = Muon(layer)
    for x in layer.parameters():
        x.grad = torch.randn_like(x)
    before = layer.weight
    for step in range(1000):
        before = layer.weight.detach().clone()
        optimizer.step()
        layer.weight.grad, layer.bias.grad = torch.zeros(8, 8), torch.zeros(8)
        if step == 300:
            assert (layer.weight - before).abs().max() < 1e-6
    assert torch.equal(layer.weight, before)
    assert layer.weight.abs().max() < 10


def test_an_added_group_gets_adam() -> None:
    model, added = nn.Linear(3, 3), nn.Parameter(torch.ones(2, 2))
    optimizer = Muon(model, 0.1)
    optimizer.add_param_group({"params": [added], "lr": 0.5})
    for x in (*model.parameters(), added):
        x.grad = torch.ones_like(x)
    optimizer.step()
    torch.testing.assert_close(added.detach(), torch.full((2, 2), 0.5), rtol=0, atol=1e-6)


def test_the_count_of_steps_has_its_own_dtype() -> None:
    """In bfloat16 it would stay at 256, and in float16 the fused step refuses it."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = nn.Linear(3, 3, dtype=torch.float32)
        optimizer = Muon(layer)
        for x in layer.parameters():
            x.grad = torch.ones_like(x)
        optimizer.step()
    finally:
        torch.set_default_dtype(torch.float32)
    assert optimizer.state[layer.bias]["step"].dtype == torch.float32


def test_numbers_beside_a_strided_parameter_stay() -> None:
    """Also with a gradient in another layout: each number takes the step of its own gradient."""
    model, flat = nn.Module(), torch.zeros(6)
    model.view = nn.Parameter(flat[::2])
    model.turned = nn.Parameter(torch.zeros(2, 3))
    optimizer = Muon(model, 0.1)
    model.view.grad = torch.tensor([1.0, -1.0, 1.0])
    model.turned.grad = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]).T.contiguous().T
    optimizer.step()
    torch.testing.assert_close(flat, torch.tensor([-0.1, 0, 0.1, 0, -0.1, 0]))
    torch.testing.assert_close(model.turned.detach(), -0.1 * model.turned.grad)


def test_empty_layers_and_sparse_gradients() -> None:
    empty = nn.Linear(1, 3)
    empty.weight = nn.Parameter(torch.zeros(3, 0))
    empty.weight.grad, empty.bias.grad = torch.zeros(3, 0), torch.ones(3)
    Muon(empty).step()
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = Muon(table)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="Muon takes no sparse gradients"):
        optimizer.step()


def test_options_of_adam_in_an_added_group_are_refused() -> None:
    """They would have no effect."""
    optimizer = Muon(nn.Linear(3, 3))
    added = nn.Parameter(torch.ones(2))
    for name, value in (("weight_decay", 0.5), ("maximize", True), ("betas", (0.5, 0.9))):
        with pytest.raises(ValueError, match=f"^param_group: got {name!r}, need params and lr alone"):
            optimizer.add_param_group({"params": [added], name: value})
    optimizer.add_param_group({"params": [added], "lr": 0.5})


def test_complex_parameters_keep_adam() -> None:
    layer, other = nn.Linear(3, 3, dtype=torch.complex64), nn.Linear(3, 3, dtype=torch.complex64)
    other.load_state_dict(layer.state_dict())
    optimizer, adam = Muon(layer, 1e-2), torch.optim.Adam(other.parameters(), 1e-2)
    for x, y in zip(layer.parameters(), other.parameters(), strict=True):
        x.grad = torch.randn_like(x)
        y.grad = x.grad.clone()
    optimizer.step()
    adam.step()
    for x, y in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.slow
def test_under_torch_compile() -> None:
    """Three steps of an LSTM, whose gates are matrices of one parameter, and of a whole compiled training step."""
    torch._dynamo.reset()
    layers = [nn.LSTM(4, 4) for _ in range(3)]
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())
    plain, of_step, of_all = map(Muon, layers)
    step = torch.compile(of_step.step, backend="eager")
    x = torch.randn(5, 4)

    @torch.compile(backend="eager")
    def train() -> None:
        of_all.zero_grad()
        layers[2](x)[0].square().sum().backward()
        of_all.step()

    for _ in range(3):
        for layer, optimizer, take in ((layers[0], plain, plain.step), (layers[1], of_step, step)):
            optimizer.zero_grad()
            layer(x)[0].square().sum().backward()
            take()
        train()
        for layer in layers[1:]:
            for a, b in zip(layer.parameters(), layers[0].parameters(), strict=True):
                torch.testing.assert_close(a, b)


def test_flat_parameters_are_refused() -> None:
    """Under FSDP with use_orig_params=False no layer has a weight of its own, so every number would get Adam."""
    model = nn.Sequential(nn.Linear(3, 3))
    model.register_parameter("_flat_param", nn.Parameter(torch.ones(12)))
    with pytest.raises(ValueError, match=r"^model: got the flat parameters of FSDP, need use_orig_params=True"):
        Muon(model)
