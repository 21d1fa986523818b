"""The meta-memory network on few-shot characters: the command line, the settings it gets, resuming."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.__main__ import main
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.experiment import FewShotExperiment
from mannkern.experiments.registry import train
from mannkern.models import MetaMemoryNetwork
from mannkern.tasks import glyphs
from mannkern.training.checkpoint import load_checkpoint

SMALL = FewShotConfig(
    model="meta-memory", classes=2, queries=1, width=4, hidden_size=5, batch_size=2, log_every=2, validate_every=3,
    threads=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_example() -> None:
    """Reasoning takes an embedding and a read of 4 numbers each and a value for each of 3 classes: 11 inputs."""
    config = replace(SMALL, classes=3, layers=2, inner_steps=4, step_size=0.02, first_order=True, backend="reference")
    model = FewShotExperiment(config).make_model()
    assert isinstance(model, MetaMemoryNetwork)
    assert (model.outputs, model.steps, model.first_order, model.backend) == (3, 4, True, "reference")
    assert all((step_size == 0.02).all() for step_size in model.step_sizes)
    shapes = {name: tuple(p.shape) for name, p in model.answer.named_parameters()}
    assert shapes["reasoning.0.weight"] == (5, 2 * 4 + 3)
    assert shapes["reasoning.2.weight"] == (5, 5)
    assert shapes["output.weight"] == (3, 5)


@pytest.mark.slow
@pytest.mark.parametrize("shots", [1, 2])
def test_the_command_line_trains_evaluates_and_draws(
    shots: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--classes 2 --queries 1 --width 4 --hidden-size 5 --batch-size 2 --threads 1 --episodes 20 --steps 3"
    command = f"train few-shot-glyphs --model meta-memory --shots {shots} --run {tmp_path / 'run'} {sizes}"
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    for word in ("META-MEMORY on few-shot-glyphs", f"accuracy 2-way {shots}-shot", "META-MEMORY: 3 steps, 6 episodes"):
        assert word in out
    for name in ("learning_curve", "episode"):
        assert (tmp_path / "run" / "pictures" / f"{name}.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("first_order", [False, True])
def test_resuming_equals_never_having_stopped(tmp_path: Path, first_order: bool) -> None:
    states = []
    for name, stops in (("straight", (4,)), ("stopped", (2, 4))):
        (tmp_path / name).mkdir()
        for stop in stops:
            train(replace(SMALL, shots=2, steps=stop, first_order=first_order), tmp_path / name)
        state = load_checkpoint(tmp_path / name)
        assert state is not None
        states.append(state)
    assert states[0]["step"] == 4
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
