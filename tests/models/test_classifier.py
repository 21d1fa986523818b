"""The classifier of episodes: shapes, what a trace shows, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mannkern import MANN, NTM, MANNCell
from mannkern.models import CoreSettings, EpisodeClassifier, PersistentClassifier, build_core

SMALL: dict[str, Any] = {"hidden_size": 16, "memory_slots": 12, "memory_width": 6, "num_reads": 2, "num_writes": 2}
MODELS = ("mann", "ntm", "lstm", "feedforward")


def build(model: str = "mann", **options: Any) -> EpisodeClassifier:
    torch.manual_seed(0)
    return EpisodeClassifier(build_core(model, CoreSettings(7, **SMALL | options)), 3)


def test_the_head_by_hand() -> None:
    """A layer of one unit, tanh(x), under a head of two classes, h and 1 - h: at x = 0 they are 0 and 1."""
    model = EpisodeClassifier(build_core("feedforward", CoreSettings(1, hidden_size=1)), 2)
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), ([1.0], [0.0], [1.0, -1.0], [0.0, 1.0]), strict=True):
            parameter.copy_(torch.tensor(values).view_as(parameter))
    h = torch.tensor(0.5).tanh().item()
    expected = torch.tensor([[[0.0, 1.0]], [[h, 1 - h]]])
    torch.testing.assert_close(model(torch.tensor([[[0.0]], [[0.5]]])), expected)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("T", "B"), [(5, 4), (1, 1), (5, 0)])
def test_shapes(name: str, T: int, B: int) -> None:
    model = build(name)
    logits = model(torch.randn(T, B, 7))
    assert logits.shape == (T, B, 3)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (model.head.bias == 0).all()


def test_standard_sizes() -> None:
    mann, lstm = (EpisodeClassifier(build_core(name, CoreSettings(405)), 5) for name in ("mann", "lstm"))
    assert isinstance(mann.recurrent, MANN)
    assert "405, 200, memory_slots=128, memory_width=40, num_reads=4" in repr(mann)
    assert mann.head.in_features == 360
    assert isinstance(lstm.recurrent, torch.nn.LSTM)
    assert lstm.head.in_features == 200


@pytest.mark.parametrize("options", [{}, {"least_used": "per_head", "key_strength": True, "memory_init": "learned"}])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_trace_is_forward(controller: str, options: dict[str, Any]) -> None:
    model = build(controller=controller, **options).double()
    inputs = torch.randn(9, 4, 7, dtype=torch.float64)
    logits, reads, writes = model.trace(inputs)
    torch.testing.assert_close(logits, model(inputs).detach(), rtol=1e-10, atol=1e-12)
    assert not logits.requires_grad
    assert reads.shape == writes.shape == (9, 4, 2, 12)
    assert (reads >= 0).all()
    torch.testing.assert_close(reads.sum(-1), torch.ones(9, 4, 2, dtype=torch.float64))
    assert (writes >= 0).all()
    cell = model.recurrent.cell
    assert isinstance(model.recurrent, MANN)
    state = cell.initial_state(4)
    for t, x in enumerate(inputs):  # the usage that the weights add up to chooses the slots written next
        _, state = cell(x, state)
        torch.testing.assert_close(state.read_weights.detach(), reads[t], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_trace_of_the_ntm_is_forward(controller: str) -> None:
    model = build("ntm", controller=controller, memory_init="uniform").double()
    inputs = torch.randn(9, 4, 7, dtype=torch.float64)
    logits, reads, writes = model.trace(inputs)
    torch.testing.assert_close(logits, model(inputs).detach(), rtol=1e-10, atol=1e-12)
    assert reads.shape == writes.shape == (9, 4, 2, 12)
    for weights in (reads, writes):
        torch.testing.assert_close(weights.sum(-1), torch.ones(9, 4, 2, dtype=torch.float64))


@pytest.mark.parametrize(("name", "cls"), [("lstm", "LSTM"), ("feedforward", "FeedForward")])
def test_without_memory_there_is_no_trace(name: str, cls: str) -> None:
    with pytest.raises(TypeError, match=rf"^trace: got {cls}, need a core with a memory, such as MANN or NTM"):
        build(name).trace(torch.zeros(2, 1, 7))


def test_a_layer_sees_one_step_alone() -> None:
    model, inputs = build("feedforward"), torch.randn(5, 2, 7)
    assert model.head.in_features == 16
    linear = model.recurrent[0]
    expected = model.head(torch.tanh(inputs @ linear.weight.T + linear.bias))
    torch.testing.assert_close(model(inputs), expected)


def test_parameters_have_the_names_of_earlier_checkpoints() -> None:
    names = {
        "mann": "recurrent.cell.interface.weight",
        "ntm": "recurrent.cell.controller.weight_ih",
        "lstm": "recurrent.weight_hh_l0",
        "feedforward": "recurrent.0.weight",
    }
    for model, name in names.items():
        assert {name, "head.weight", "head.bias"} <= set(build(model).state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_training_lowers_the_loss(name: str) -> None:
    """The label of each step's input is told one step later, as in the paper: two patterns, two labels."""
    model, g = build(name), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    patterns = torch.eye(4)
    losses = []
    for _ in range(30):
        which = torch.randint(2, (8, 16), generator=g)
        labels = which ^ torch.randint(2, (1, 16), generator=g)  # bound anew in each episode
        told = F.pad(F.one_hot(labels, 3)[:-1], (0, 0, 0, 0, 1, 0)).float()
        logits = model(torch.cat([patterns[which], told], -1))
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_trace_of_several_layers(batch_first: bool) -> None:
    """The logits are the model's, the weights those of the lowest layer, in the layout of the input."""
    model = EpisodeClassifier(MANN(7, 16, 12, 6, 2, num_layers=2, batch_first=batch_first), 3)
    inputs = torch.randn(9, 4, 7)
    logits, reads, writes = model.trace(inputs)
    torch.testing.assert_close(logits, model(inputs).detach())
    assert reads.shape == writes.shape == (9, 4, 2, 12)
    lowest = MANN(7, 16, 12, 6, 2)
    lowest.load_state_dict({name: x for name, x in model.recurrent.state_dict().items() if name.startswith("cell")})
    expected = lowest.trace(inputs.transpose(0, 1) if batch_first else inputs).read_weights
    torch.testing.assert_close(reads, expected.transpose(0, 1) if batch_first else expected)


@pytest.mark.parametrize("core", [MANN(7, 16, 12, 6, 2), NTM(7, 16, 12, 6, 2), MANN(7, 16, 12, 6, 2, num_layers=2)])
def test_trace_checks_its_arguments(core: MANN | NTM) -> None:
    assert core.trace(torch.zeros(0, 4, 7)).read_weights.shape == (0, 4, 2, 12)
    with pytest.raises(ValueError, match=r"^input: got shape \(9, 4, 6\)"):
        core.trace(torch.zeros(9, 4, 6))
    with pytest.raises(TypeError, match=r"^input: got list"):
        core.trace([[0.0] * 7])
    with pytest.raises(ValueError, match=r"^state\.\w+: got shape"):
        core.trace(torch.zeros(9, 4, 7), core.initial_state(3))
    with pytest.raises(TypeError, match=r"^state: got"):
        core.trace(torch.zeros(9, 4, 7), "state")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("mann", 5), TypeError, r"core: got str, need a module of whole sequences .* mannkern.MANN or build_core"),
        ((nn.LSTM(3, 4), 5), TypeError, "core: got LSTM, need a module of whole sequences"),
        ((MANNCell(3, 4), 5), TypeError, "core: got MANNCell, need a module of whole sequences"),
        ((MANN(3, 4), 0), ValueError, "num_classes: got 0, need at least 1"),
        ((MANN(3, 4), 2.0), TypeError, "num_classes: got float"),
        ((MANN(3, 4), 2, torch.zeros(2)), ValueError, r"mean: got \(2,\), need a tensor \(F,\) = \(3,\)"),
        ((MANN(3, 4), 2, torch.zeros(1, 3)), ValueError, r"mean: got \(1, 3\), need a tensor \(F,\)"),
        ((MANN(3, 4), 2, 0.5), ValueError, "mean: got float, need a tensor"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + message):
        EpisodeClassifier(*arguments)


def test_an_input_of_another_size_than_the_mean() -> None:
    model = EpisodeClassifier(build_core("feedforward", CoreSettings(3)), 2, torch.zeros(3))
    with pytest.raises(ValueError, match=r"^inputs: got shape \(5, 1, 4\), need \(T, B, F\) with F = 3"):
        model(torch.zeros(5, 1, 4))


def test_settings_of_a_core_that_are_none() -> None:
    with pytest.raises(TypeError, match=r"^settings: got int, need CoreSettings"):
        build_core("mann", 405)  # type: ignore[arg-type]


def test_the_mean_is_the_models_own() -> None:
    """Loading a model must not change another one that was built with the same tensor."""
    mean = torch.zeros(405)
    one, other = (EpisodeClassifier(MANN(405, 8), 5, mean) for _ in range(2))
    one.load_state_dict(one.state_dict() | {"mean": torch.ones(405)})
    assert float(one.mean.sum()) == 405  # type: ignore[union-attr]
    assert float(other.mean.sum()) == float(mean.sum()) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("module", [MANN, NTM])
def test_a_carried_memory_stays_in_float32_beside_half_precision(module: Any) -> None:
    """So that a model that is loaded goes on with the memory and usage that were saved."""
    x = torch.randn(3, 2, 5, dtype=torch.bfloat16)
    models = [PersistentClassifier(module(5, 8, 6, 4, 2), 3, batch_size=2).bfloat16() for _ in range(2)]
    for _ in range(2):
        models[0](x)
    models[1].load_state_dict(models[0].state_dict())
    states = [model.state_dict() for model in models]
    assert {str(v.dtype) for k, v in states[1].items() if "carried" in k} == {"torch.float32", "torch.bfloat16"}
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert torch.equal(models[0](x), models[1](x))
    assert all(v.dtype == torch.float64 for v in models[0].double().state_dict().values())


def test_a_carried_memory_has_a_dtype_that_trains() -> None:
    """Also after float64, and a learned memory is refused, for no gradient reaches it."""
    model = PersistentClassifier(MANN(5, 8, 6, 4, 2), 3, batch_size=2).double().bfloat16()
    for _ in range(2):
        model(torch.randn(3, 2, 5, dtype=torch.bfloat16)).float().sum().backward()
    with pytest.raises(ValueError, match=r"^core: got memory_init='learned', need a number or 'uniform'"):
        PersistentClassifier(MANN(5, 8, 6, 4, 2, memory_init="learned"), 3, batch_size=2)
