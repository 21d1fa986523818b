"""Muon: against the formula in float64, for the gates of an LSTM one by one, and beside Adam."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import mannkern
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import make_model
from mannkern.optim import Muon, gates_of_matrices, orthogonalized
from tests.docs.markdown import python_blocks, text


def turned(x: Tensor) -> Tensor:
    """Three Newton-Schulz iterations on the singular values of x, in float64."""
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(3):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (1, 4), (4, 1), (5, 40), (40, 5)])
def test_orthogonalized_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalized(x).double(), turned(x), rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(orthogonalized(x.double()))
    assert 0.6 < values.max() < 1.25
    for size in (1e-6, 1e6, 1e18):
        torch.testing.assert_close(orthogonalized(size * x), orthogonalized(x), rtol=1e-4, atol=1e-5)


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
    gates = gates_of_matrices(network, ("head",))
    found = {name: gates[x] for name, x in network.named_parameters() if x in gates}
    interface = {"recurrent.cell.interface.weight": 1} if model == "mann" else {}
    assert found == dict.fromkeys(names, 1 if model == "feedforward" else 4) | interface


def test_the_projection_of_an_lstm_is_one_matrix() -> None:
    lstm = nn.LSTM(3, 8, proj_size=2)
    gates = gates_of_matrices(lstm, ())
    assert [gates[x] for x in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.weight_hr_l0)] == [4, 4, 1]
    assert list(gates_of_matrices(nn.GRU(3, 8), ()).values()) == [3, 3]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_a_matrix_for_each_group(groups: int, layout: torch.memory_format) -> None:
    layer = nn.Conv2d(4, 6, (3, 2), groups=groups, bias=False).to(memory_format=layout)  # type: ignore[call-overload]
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn_like(before)
    Muon(layer, 0.01).step()
    for was, now, gradient in zip(*(x.chunk(groups) for x in (before, layer.weight, layer.weight.grad)), strict=True):
        expected = 0.02 * turned(gradient.flatten(1))
        torch.testing.assert_close((was - now).detach().double().flatten(1), expected, rtol=1e-4, atol=1e-5)
    assert layer.weight.stride() == before.stride()


def test_other_kernels_and_embeddings_keep_adam() -> None:
    layers = nn.ModuleList([nn.ConvTranspose2d(2, 3, 3), nn.Embedding(4, 3), nn.BatchNorm2d(3), nn.Bilinear(2, 2, 2)])
    assert not gates_of_matrices(layers, ())
    assert set(gates_of_matrices(nn.ModuleList([nn.Conv1d(2, 3, 3), nn.Conv3d(2, 3, 3)]), ()).values()) == {1}


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


def test_copies_and_schedules_and_closures() -> None:
    """A deep copy goes on as the original does; a schedule changes both groups; a closure makes the gradients."""
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(3, 4)
    optimizer = Muon(model, 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(images).square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]
    assert optimizer.step(closure) < first
    both = copy.deepcopy((model, optimizer))
    for m, o in ((model, optimizer), both):
        o.zero_grad()
        m(images).square().sum().backward()
        o.step()
    for x, y in zip(model.parameters(), both[0].parameters(), strict=True):
        assert torch.equal(x, y)


def test_a_scaled_loss_takes_the_same_steps() -> None:
    """Gradients of 1,024 times the loss, through a GradScaler; one with an infinity changes nothing."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, scaled = (Muon(model, 0.1) for model in models)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        images = torch.randn(3, 4)
        for optimizer in (plain, scaled):
            optimizer.zero_grad()
        models[0](images).sum().backward()
        scaler.scale(models[1](images).sum()).backward()
        if step == 2:
            models[1][0].weight.grad[0, 0] = torch.inf
        else:
            plain.step()
        scaler.step(scaled)
        scaler.update()
    for x, y in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(x, y)


def test_half_precision_is_turned_in_float32() -> None:
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(orthogonalized(x), orthogonalized(x.float()).bfloat16())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([torch.zeros(2, 2, requires_grad=True)],), TypeError, "model: got list, need a torch.nn.Module"),
        ((nn.ReLU(),), ValueError, "model: got a module without parameters"),
        ((nn.Linear(2, 2), -0.1), ValueError, "lr: got -0.1, need a number of at least 0"),
        ((nn.Linear(2, 2), float("nan")), ValueError, "lr: got nan"),
        ((nn.Linear(2, 2), float("inf")), ValueError, "lr: got inf"),
        ((nn.Linear(2, 2), torch.tensor(0.1)), TypeError, "lr: got Tensor, need a number"),
        ((nn.Linear(2, 2), "a"), TypeError, "lr: got str, need a number"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Muon(*arguments)


def test_the_example_of_its_page() -> None:
    scope: dict[str, Any] = {"torch": torch, "mannkern": mannkern}
    exec(python_blocks(text("docs/api/optim.md"))[0], scope)
    assert any(x is scope["model"]["readout"].weight for x in scope["optimizer"].param_groups[0]["params"])


def test_names_of_output_layers() -> None:
    model = nn.ModuleDict({"hidden": nn.Linear(3, 3), "readout": nn.Linear(3, 2), "head": nn.Linear(3, 2)})

    def sizes(optimizer: Muon) -> list[int]:
        return [len(group["params"]) for group in optimizer.param_groups]

    assert sizes(Muon(model)) == [4, 2]
    assert sizes(Muon(model, output_layers=["readout", "head"])) == [5, 1]
    with pytest.raises(TypeError, match="output_layers: got 'head', need a collection"):
        Muon(model, output_layers="head")
    with pytest.raises(ValueError, match=r"output_layers: got 'hed', need .* the model has hidden, readout, head"):
        Muon(model, output_layers=["hed"])


def test_hooks_run_once_a_step() -> None:
    model = nn.Linear(3, 3)
    torch.optim.Adam(model.parameters())  # wraps the step of its class, for hooks
    optimizer, calls = Muon(model), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    assert calls == ["before", "after"]


def test_a_model_of_matrices_alone() -> None:
    model = nn.Linear(3, 3, bias=False)
    before = model.weight.detach().clone()
    optimizer = Muon(model)
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


def test_a_layer_is_named_by_the_end_of_its_path() -> None:
    """Layers of two stacks share their numbers: the decoder's last one keeps Adam, the encoder's does not."""
    model = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(3, 4)), "decoder": nn.Sequential(nn.Linear(4, 3))})
    matrices = Muon(model, output_layers=["decoder.0"]).param_groups[1]["params"]
    assert [x.shape for x in matrices] == [(4, 3)]
    assert Muon(model, output_layers=["0"]).param_groups[1]["params"] == []
    with pytest.raises(ValueError, match=r"output_layers: got 'coder\.0', need .*has encoder\.0, decoder\.0$"):
        Muon(model, output_layers=["coder.0"])


def test_a_parametrized_layer_is_told_of() -> None:
    with pytest.warns(UserWarning, match="^model: '1' is parametrized, so Adam steps its parameters$"):
        Muon(nn.Sequential(nn.Linear(3, 4), weight_norm(nn.Linear(4, 4))))
