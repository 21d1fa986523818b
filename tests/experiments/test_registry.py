"""A new kind of experiment is one line in the registry: the command line trains, evaluates and draws it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments import registry
from mannkern.experiments.kind import Kind
from mannkern.experiments.registry import config_classes, kind_of, load_config
from mannkern.files import write_json
from mannkern.tasks import seeds
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RunConfig, option
from mannkern.training.drawing import draw_curve, name_training_axis, panels_of, run_colour, save, side_legend
from mannkern.training.errors import CommandError
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED
from mannkern.training.metrics import read_metrics
from mannkern.training.runtime import eval_mode, load_model, usable_device
from mannkern.training.statistics import mean_and_interval
from mannkern.training.tables import EVALUATION, run_names, side_by_side, training_lines
from tests.commands.calls import refused, run


@dataclass(frozen=True)
class MeanConfig(RunConfig):
    """Settings of the toy: learn the mean of numbers around 3."""

    task: str = option("mean", "the task", choices=("mean",))
    model: str = option("constant", "the model", choices=("constant",))
    spread: float = option(1.0, "standard deviation of the numbers")
    log_every: int = option(2, "steps between lines of metrics.jsonl")
    validate_every: int = option(4, "steps between validations")
    lr: float | None = option(0.5, "learning rate", kind=float)

    GROUP: ClassVar[str] = "numbers"
    FAMILY: ClassVar[str] = "lrua"
    DEFAULT_STEPS: ClassVar[int] = 40


class Constant(nn.Module):
    """The same answer to everything, which begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, numbers: Tensor) -> Tensor:
        return self.value.expand_as(numbers)


class MeanExperiment:
    """The loss is the mean squared error, which is least where the constant is the numbers' mean."""

    unit = "numbers"
    num_sums = 1

    def __init__(self, config: MeanConfig) -> None:
        if config.spread < 0:
            raise CommandError(f"--spread: got {config.spread}, need at least 0")
        self.config = config

    def draw(self, number: int, seed: int, index: int) -> Tensor:
        return 3 + self.config.spread * torch.randn(number, generator=seeds.generator(seed, index))

    def make_model(self) -> Constant:
        return Constant()

    def sample(self, step: int, device: torch.device) -> Tensor:
        return self.draw(self.config.batch_size, self.config.seed, step).to(device)

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        loss = (model(batch) - batch).square().mean()
        return loss, model(batch).detach().double().sum().unsqueeze(0)

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        return {"mean_answer": sums[0] / steps / self.config.batch_size}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"answer {summary['mean_answer']:.2f}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        return {"loss": measure(self, model, VALIDATION_SEED, 50, device)[0]}


class Evaluation(NamedTuple):
    run: Path
    config: MeanConfig
    step: int
    error: float
    interval: float


def measure(
    experiment: MeanExperiment, model: nn.Module, seed: int, number: int, device: torch.device
) -> tuple[float, float]:
    with eval_mode(model, device):
        numbers = experiment.draw(number, seed, 0).to(device)
        return mean_and_interval((model(numbers) - numbers).square())


def evaluate(run: Path, config: MeanConfig, number: int) -> Evaluation:
    experiment, device = MeanExperiment(config), usable_device(config)
    model, step = load_model(run, experiment, device)
    error, interval = measure(experiment, model, EVALUATION_SEED, number, device)
    write_json(run / EVALUATION, {"step": step, "model": config.model, "error": error})
    return Evaluation(run, config, step, error, interval)


def table(results: Sequence[Evaluation]) -> str:
    columns = [["", "error"], *([n, f"{r.error:.3f}"] for n, r in zip(run_names(results), results, strict=True))]
    return "\n".join([*training_lines(results, "numbers"), *side_by_side(columns)])


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    figure, (axes,) = panels_of("mean: learning curve", 1, (6.0, 3.0))
    draw_curve(axes, results[0].run, "loss", "numbers", run_colour(0), ("training", "validation"))
    name_training_axis(axes, "numbers")
    side_legend(axes)
    return [save(figure, results[0].run, "learning_curve.png")]


KIND = Kind({"mean": MeanConfig}, "nobody's paper", "squared error", MeanExperiment, evaluate, table, draw_all)


@pytest.fixture
def registered() -> Iterator[None]:
    registry.KINDS.append(KIND)
    yield
    registry.KINDS.remove(KIND)


def test_the_toy_by_hand() -> None:
    """Numbers that are all 3 and the answer 0: a loss of 9, of gradient -6, and the answers add up to 0."""
    experiment = MeanExperiment(MeanConfig(spread=0.0, batch_size=4))
    model = experiment.make_model()
    loss, sums = experiment.loss_and_sums(model, experiment.sample(0, torch.device("cpu")))
    loss.backward()
    assert (loss.item(), model.value.grad.item(), sums.tolist()) == (9.0, -6.0, [0.0])


@pytest.mark.usefixtures("registered")
def test_the_command_line_trains_evaluates_and_draws_a_new_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run("train mean --spread 0.5 --threads 1 --episodes 50 --run", folder) == 0
    out = capsys.readouterr().out
    assert "CONSTANT on mean" in out
    assert "CONSTANT: 40 steps, 640 numbers of training" in out
    assert (folder / "pictures" / "learning_curve.png").exists()
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert abs(float(checkpoint["model"]["value"]) - 3) < 0.5
    assert json.loads((folder / "evaluation.json").read_text())["error"] < 0.5
    assert [line["step"] for line in read_metrics(folder)][:3] == [2, 4, 4]
    assert isinstance(load_config(folder), MeanConfig)
    assert "--spread 0.5, not 2.0" in refused(capsys, "train mean --resume --spread 2 --run", folder)
    assert run("evaluate --episodes 50", folder) == 0
    assert "--spread does not apply to glyphs" in refused(capsys, "train glyphs --spread 2 --run", tmp_path / "new")
    assert "--spread: got -1.0" in refused(capsys, "train mean --spread -1 --run", tmp_path / "new")


@pytest.mark.usefixtures("registered")
def test_help_shows_a_new_kind(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (
        (
            "train mean --help",
            ("standard deviation of the numbers (default: 1.0)", "Trains a model on mean (nobody's paper)"),
        ),
        ("train --help", ("priority-sort, mean",)),
        ("evaluate --help", ("squared error (mean)",)),
    ):
        with pytest.raises(SystemExit):
            run(command)
        text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # argparse breaks lines at hyphens
        assert all(word in text for word in words), command


def test_tasks_have_one_kind_and_their_settings_name_them() -> None:
    classes = config_classes()
    assert len(classes) == sum(len(kind.tasks) for kind in registry.KINDS)
    for task, cls in classes.items():
        assert task in kind_of(task).tasks
        assert cls(task=task).task == task
