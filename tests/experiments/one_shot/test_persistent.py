"""A memory that is not wiped: what a step goes on from, what resumes, and what is measured and drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import OneShotExperiment
from mannkern.experiments.one_shot.pictures import accuracy_by_place, draw_all
from mannkern.experiments.one_shot.report import Evaluation, evaluate, table
from mannkern.experiments.one_shot.scores import measure, measure_streams
from mannkern.experiments.registry import train
from mannkern.memories.lrua.cell import MANNState
from mannkern.memories.ntm.cell import NTMState
from mannkern.models import CoreSettings, EpisodeClassifier, PersistentClassifier, build_core
from mannkern.tasks import glyphs
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import refused

CPU = torch.device("cpu")
SMALL = OneShotConfig(
    classes=2, length=6, hidden_size=8, memory_slots=6, memory_width=4, num_reads=2, batch_size=2, log_every=2,
    validate_every=4, validation_episodes=6, threads=1, steps=4, persistent=True,
)  # fmt: skip


class Stateful(nn.Module):
    """A controller of one's own, whose state only it knows."""

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        h = x[:, :8].tanh() if state is None else (state + x[:, :8]).tanh()
        return h, h


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    train(SMALL, tmp_path)
    return evaluate(tmp_path, SMALL, 60)


def episodes_in_turn(core: MANN, inputs: Tensor) -> Tensor:
    """Outputs of two episodes of 5 steps; the second has the memory of the first, beside a new controller's state."""
    first, left = core(inputs[:5])
    layers = left if core.num_layers > 1 else (left,)
    starts = [cell.initial_state(2) for cell in core.cells]
    kept = [
        MANNState(start.controller, layer.memory, layer.read_weights, layer.usage, start.read)
        for start, layer in zip(starts, layers, strict=True)
    ]
    return torch.cat((first, core(inputs[5:], tuple(kept) if core.num_layers > 1 else kept[0])[0]))


def test_the_memory_goes_on_and_the_controller_starts_anew() -> None:
    """A second batch starts with the memory that the first left, and no gradient goes back into the first."""
    torch.manual_seed(0)
    model = PersistentClassifier(MANN(3, 8, memory_slots=6, memory_width=4, num_reads=2), 2, 2)
    inputs = torch.randn(10, 2, 3)
    expected = model.head(episodes_in_turn(model.recurrent, inputs))
    first, second = model(inputs[:5]), model(inputs[5:])
    torch.testing.assert_close(torch.cat((first, second)), expected)
    second.sum().backward()
    assert not model.carried_0.requires_grad
    assert len(model._carried) == 6, "h, c, memory, read weights, usage, read"
    assert all(name in model.state_dict() for name in model._carried), "a checkpoint has the state"
    model.eval()
    wiped = torch.cat([model.continue_from(half, None)[0] for half in inputs.split(5)])
    assert not torch.allclose(second, wiped[5:]), "what the memory holds is seen"
    torch.testing.assert_close(model(inputs[5:]), wiped[5:], msg="in evaluation the memory is wiped")


@pytest.mark.parametrize(
    ("controller", "layers"), [(nn.GRUCell(11, 8), 1), (nn.RNNCell(11, 8), 1), ("feedforward", 1), ("feedforward", 2)]
)
def test_every_controller_whose_start_is_known(controller: nn.Module | str, layers: int) -> None:
    core = MANN(3, 8, memory_slots=6, memory_width=4, num_reads=2, controller=controller, num_layers=layers)
    model = PersistentClassifier(core, 2, 2)
    inputs = torch.randn(10, 2, 3)
    expected = model.head(episodes_in_turn(core, inputs))
    torch.testing.assert_close(torch.cat((model(inputs[:5]), model(inputs[5:]))), expected)


def test_an_ntm_keeps_its_memory_and_weights() -> None:
    core = NTM(3, 8, memory_slots=6, memory_width=4, num_read_heads=2)
    model, inputs = PersistentClassifier(core, 2, 2), torch.randn(10, 2, 3)
    first, left = core(inputs[:5])
    start = core.initial_state(2)
    kept = NTMState(start.controller, left.memory, left.read_weights, left.write_weights, start.read)
    expected = model.head(torch.cat((first, core(inputs[5:], kept)[0])))
    torch.testing.assert_close(torch.cat((model(inputs[:5]), model(inputs[5:]))), expected)


def test_a_core_whose_start_is_not_known_is_named() -> None:
    with pytest.raises(TypeError, match=r"^core: got a LSTM, need one with a memory"):
        PersistentClassifier(build_core("lstm", CoreSettings(3)), 2, 2)
    core = MANN(3, 8, memory_slots=6, memory_width=4, num_reads=2, controller=Stateful())
    with pytest.raises(TypeError, match=r"^core: got a Stateful as controller"):
        PersistentClassifier(core, 2, 2)


def test_a_resumed_run_goes_on_with_the_memory_it_had(tmp_path: Path) -> None:
    states = []
    for name, stops in (("straight", (5,)), ("stopped", (3, 5))):
        (tmp_path / name).mkdir()
        for stop in stops:
            train(replace(SMALL, steps=stop), tmp_path / name)
        states.append(load_checkpoint(tmp_path / name))
    straight, stopped = states
    assert straight is not None
    assert stopped is not None
    assert straight["model"]["carried_2"].abs().max() > 0
    for name, value in straight["model"].items():
        assert torch.equal(value, stopped["model"][name]), name


def test_streams_start_wiped_and_go_on() -> None:
    """The first place is scored as a wiped memory is, later ones differ; wiped, each is scored as a single episode."""
    experiment = OneShotExperiment(replace(SMALL, batch_size=3))
    model, state = experiment.make_model(), torch.get_rng_state()
    carried, places = measure_streams(model, experiment.unseen, 60, CPU)
    wiped, wiped_places = measure_streams(model, experiment.unseen, 60, CPU, wipe=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert carried.episodes == wiped.episodes == 60
    assert len(places) == 20
    assert places[0] == wiped_places[0]
    assert carried.loss != wiped.loss
    assert sum(places) / 20 == pytest.approx(carried.accuracy)
    single = measure(model, experiment.unseen, 3, CPU)
    assert wiped_places[0] == pytest.approx(single.accuracy)
    assert measure_streams(model, experiment.unseen, 5, CPU)[0].episodes == 5


def test_the_record_has_both_and_the_picture_shows_them(result: Evaluation) -> None:
    record = json.loads((result.run / "evaluation.json").read_text())
    assert len(record["unseen_by_place"]) == 20
    assert record["unseen"]["episodes"] == record["unseen_wiped"]["episodes"] == 60
    assert table([result]).splitlines()[3].split() == "instance MANN MANN, wiped chance".split()  # noqa: SIM905
    (axes,) = accuracy_by_place(result, "MANN").axes
    line, level = axes.get_lines()[:2]
    assert list(line.get_ydata()) == [100 * mean for mean in record["unseen_by_place"]]
    assert level.get_ydata()[0] == pytest.approx(100 * record["unseen_wiped"]["accuracy"])
    path = next(path for path in draw_all([result]) if path.name == "accuracy_by_place.png")
    assert matplotlib.image.imread(path).std() > 0.02


def test_a_model_without_a_memory_has_none_to_keep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "train glyphs --model lstm --persistent --run", tmp_path / "new")
    assert "--persistent does not apply to lstm, only to mann, ntm" in said
    baseline = replace(SMALL, model="lstm")
    assert type(OneShotExperiment(baseline).make_model()) is EpisodeClassifier
    assert isinstance(OneShotExperiment(replace(SMALL, model="ntm")).make_model(), PersistentClassifier)


def test_a_learned_memory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "train glyphs --persistent --memory-init learned --run", tmp_path / "run")
    assert "--memory-init learned does not go with --persistent: no episode starts from it" in said
