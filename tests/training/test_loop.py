"""Training stops at any step and continues as if it never had, bit for bit."""

import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mannkern.experiments.algorithmic.config import ALGORITHMIC_CONFIGS
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.one_shot import experiment as one_shot
from mannkern.experiments.registry import train
from mannkern.tasks import glyphs
from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import option
from mannkern.training.errors import CommandError
from mannkern.training.loop import Outcome
from mannkern.training.metrics import read_metrics
from tests.training.parabola import Parabola, ParabolaConfig
from tests.training.small_runs import SMALL, assert_same_run, numbers, run_in


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_a_run_that_ends_between_validations_is_validated_at_its_end(tmp_path: Path) -> None:
    """So that a short run has a point to draw. When it goes on, the point goes, as an unbroken run has none there."""
    config = ParabolaConfig(batch_size=1, log_every=100, validate_every=4, threads=1)
    for steps, wanted in ((3, [3]), (6, [4, 6]), (8, [4, 8]), (8, [4, 8])):
        assert loop.train(Parabola(), replace(config, steps=steps), tmp_path) == Outcome(steps, None)
        assert [line["step"] for line in numbers(tmp_path) if line["kind"] == "validation"] == wanted


def test_training_ends_when_a_validation_reaches_the_goal(tmp_path: Path) -> None:
    """The goal is a loss of 0, which the parabola's first validation has."""

    @dataclass(frozen=True)
    class Goal(ParabolaConfig):
        def is_reached(self, measured: Mapping[str, Any]) -> bool:
            return bool(measured["loss"] == 0)

    assert loop.train(Parabola(), Goal(steps=10, validate_every=4, threads=1), tmp_path) == Outcome(4, None)
    assert load_checkpoint(tmp_path)["step"] == 4  # type: ignore[index]


def test_a_run_that_reached_its_goal_is_not_trained_again(tmp_path: Path) -> None:
    """The goal is that of the command that resumes. A validation at the end alone does not count, as it is dropped."""

    @dataclass(frozen=True)
    class Goal(ParabolaConfig):
        until: float = option(0.0, "the loss that is the goal; the parabola's validations have 0")

        def is_reached(self, measured: Mapping[str, Any]) -> bool:
            return bool(measured["loss"] <= self.until)

    config = Goal(validate_every=4, threads=1)
    for until, steps, wanted in ((0.0, 3, 3), (0.0, 10, 4), (0.0, 10, 4), (-1.0, 8, 8), (-1.0, 9, 9), (0.0, 20, 12)):
        assert loop.train(Parabola(), replace(config, until=until, steps=steps), tmp_path) == Outcome(wanted, None)
    lines = (tmp_path / "metrics.jsonl").read_text().replace('"loss": 0', '"lost": 0')
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert loop.train(Parabola(), replace(config, steps=20), tmp_path).step == 16, "a damaged line says nothing"


class Timed(Parabola):
    """Its own clock tells 2 seconds for a step and 100 for a validation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def loss_and_sums(self, model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.now += 2
        return super().loss_and_sums(model, batch)

    def validate(self, model: torch.nn.Module, device: torch.device) -> dict[str, Any]:
        self.now += 100
        return super().validate(model, device)


def test_the_seconds_of_a_run_add_up_and_its_rate_leaves_validations_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of 3 points take 4 seconds, so the rate is 1.5, whether a validation of 100 lies between or not."""
    config = ParabolaConfig(batch_size=3, log_every=2, validate_every=3, threads=1, save_seconds=1e6)
    taken = []
    for steps in (4, 6):
        loop.train(Timed(monkeypatch), replace(config, steps=steps), tmp_path)
        taken.append(load_checkpoint(tmp_path)["seconds"])  # type: ignore[index]
    assert taken == [108, 212], "each resumption counts on from the seconds before it"
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line["points_per_second"] for line in lines] == [1.5, 1.5, 1.5]
    assert [line["seconds"] for line in lines] == [4, 108, 112]


def test_a_checkpoint_comes_at_both_ends_and_whenever_its_seconds_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 2 seconds, a checkpoint after 3: at every second step."""
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda run, state: saved.append(state["step"]))
    config = ParabolaConfig(steps=5, log_every=100, validate_every=100, threads=1, save_seconds=3.0)
    loop.train(Timed(monkeypatch), config, tmp_path)
    assert saved == [0, 2, 4, 5]


class Interrupted(Parabola):
    """Ctrl-C comes during its first step."""

    def loss_and_sums(self, model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        os.kill(os.getpid(), signal.SIGINT)
        return super().loss_and_sums(model, batch)


def test_a_signal_is_not_kept_waiting_by_a_validation(tmp_path: Path) -> None:
    """Whoever sends SIGTERM may kill the run soon after. The step that has begun ends, and is saved."""
    config = ParabolaConfig(steps=9, log_every=1, validate_every=4, threads=1)
    assert loop.train(Interrupted(), config, tmp_path) == Outcome(1, signal.SIGINT)
    assert [(line["kind"], line["step"]) for line in numbers(tmp_path)] == [("train", 1)]
    assert load_checkpoint(tmp_path)["step"] == 1  # type: ignore[index]


class Told(Parabola):
    """A parabola whose own numbers are of any type."""

    def __init__(self, own: Any = 0.0, measured: Any = 0.0) -> None:
        self.own, self.measured = own, measured

    def loss_and_sums(self, model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, sums = super().loss_and_sums(model, batch)
        return loss, sums * math.nan if self.own is math.nan else sums

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        return {"w": 0.0, "own": self.own}

    def validate(self, model: torch.nn.Module, device: torch.device) -> dict[str, Any]:
        return {"loss": torch.zeros(()), "parts": {"one": self.measured}}


def test_numbers_of_an_experiment_that_are_none_are_named(tmp_path: Path) -> None:
    """A sum that is NaN is no fault of the loss; a tensor or an array with one number is that number."""
    config = ParabolaConfig(steps=4, batch_size=1, log_every=2, validate_every=2, threads=1)
    for name, told, message in (
        ("nan", Told(math.nan), r"^loss_and_sums: got sums that are not finite by step 2, need finite numbers$"),
        ("text", Told(measured="good"), r"^validate: parts\.one: got str, need a number$"),
        ("several", Told(torch.zeros(2)), r"^summarize: own: got Tensor, need a number$"),
        ("deep", Told(measured={"a": 1}), r"^validate: parts\.one: got dict, need a number$"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(CommandError, match=message):
            loop.train(told, config, tmp_path / name)
    (tmp_path / "none").mkdir()
    loop.train(Told(None, None), config, tmp_path / "none")
    loop.train(Told(np.ones(1, np.float32), torch.tensor(2.0)), config, tmp_path)
    train, validation = numbers(tmp_path)[:2]
    assert (train["own"], validation["loss"], validation["parts"]) == (1.0, 0.0, {"one": 2.0})


def test_two_steps_by_hand(tmp_path: Path) -> None:
    """At w = 0 the loss is 9 and the gradient -6. Adam's first step is the learning rate: w = 0.5, loss 6.25."""
    config = ParabolaConfig(steps=2, lr=0.5, batch_size=1, log_every=1, validate_every=2, threads=1)
    assert loop.train(Parabola(), config, tmp_path) == Outcome(2, None)
    first, second, validation = numbers(tmp_path)
    layers = {"gradient_norm_by_layer": {"weight": 6}}
    assert first == {"kind": "train", "step": 1, "points": 1, "loss": 9, "gradient_norm": 6, "w": 0} | layers
    assert (second["loss"], second["gradient_norm"], second["w"]) == pytest.approx((6.25, 5, 0.5))
    assert validation == {"kind": "validation", "step": 2, "points": 2, "loss": 0}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["running_sums"].tolist() == [0, 0, 0, 0], "the last line of the metrics has them"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{}, {"model": "lstm"}, {"optimizer": "rmsprop", "memory_init": 1e-6}, {"optimizer": "adam"}]
)
def test_resuming_equals_never_having_stopped(tmp_path: Path, change: dict[str, Any]) -> None:
    config = replace(SMALL, **change)
    straight = run_in(tmp_path, "straight", config, 14)
    stopped = run_in(tmp_path, "stopped", config, 7, 7, 14)  # 7 lies between two lines of the metrics
    assert_same_run(straight, stopped)
    assert [line["step"] for line in numbers(straight)] == [3, 4, 6, 8, 9, 12, 12, 14]


def test_resuming_a_curriculum_equals_never_having_stopped(tmp_path: Path) -> None:
    """A stop within two classes, one at the step where the third comes, one within three."""
    config = replace(SMALL, labels="strings", curriculum=True, curriculum_episodes=8)
    straight = run_in(tmp_path, "straight", config, 10)
    assert_same_run(straight, run_in(tmp_path, "stopped", config, 3, 4, 7, 10))
    other = run_in(tmp_path, "other", replace(config, curriculum=False, curriculum_episodes=None), 10)
    assert numbers(straight)[0] == numbers(other)[0], "the same until the classes grow"
    assert numbers(straight)[-1] != numbers(other)[-1]


@pytest.mark.parametrize("model", ["ntm", "lstm"])
@pytest.mark.parametrize("task", ALGORITHMIC_CONFIGS)
def test_resuming_a_sequence_task_equals_never_having_stopped(tmp_path: Path, task: str, model: str) -> None:
    sizes = {"max_length": 3, "max_items": 3, "max_repeats": 2, "length": 9, "vectors": 4, "answers": 2}
    known = {entry.name for entry in fields(ALGORITHMIC_CONFIGS[task])}
    config = ALGORITHMIC_CONFIGS[task](
        **{name: size for name, size in sizes.items() if name in known},
        model=model, hidden_size=4, memory_slots=6, memory_width=3, lstm_size=4, lstm_layers=2, batch_size=2,
        log_every=3, validate_every=4, threads=1, memory_init="uniform", lr_decay="linear", decay_steps=9,
    )  # fmt: skip
    straight = run_in(tmp_path, "straight", config, 8)
    stopped = run_in(tmp_path, "stopped", config, 5, 8)
    assert_same_run(straight, stopped)
    lines = numbers(straight)
    assert [(line["kind"], line["step"], line["sequences"]) for line in lines] == [
        ("train", 3, 6), ("validation", 4, 8), ("train", 6, 12), ("validation", 8, 16),
    ]  # fmt: skip
    for line in lines:
        assert line["bits_per_sequence"] > 0
        assert ("loss" in line) == (line["kind"] == "train")
        assert ("optimal_bits_per_sequence" in line) == (task == "ngrams" and line["kind"] == "validation")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["matching", "matching-fce", "meta-networks"])
def test_resuming_a_few_shot_task_equals_never_having_stopped(tmp_path: Path, model: str) -> None:
    config = FewShotConfig(
        model=model, classes=2, shots=2, queries=1, width=4, batch_size=2, log_every=3, validate_every=4, threads=1
    )
    straight = run_in(tmp_path, "straight", config, 14)
    stopped = run_in(tmp_path, "stopped", config, 7, 7, 14)
    assert_same_run(straight, stopped)  # batch norm's means too
    lines = numbers(straight)
    assert [(line["kind"], line["step"], line["episodes"]) for line in lines[:3]] == [
        ("train", 3, 6), ("validation", 4, 8), ("train", 6, 12),
    ]  # fmt: skip
    assert all(0 <= line["accuracy"] <= 1 and line["loss"] > 0 for line in lines)


def test_training_changes_the_parameters_and_another_seed_gives_others(tmp_path: Path) -> None:
    states = []
    for name, config, steps in (("a", SMALL, 0), ("b", SMALL, 2), ("c", replace(SMALL, seed=1), 0)):
        checkpoint = load_checkpoint(run_in(tmp_path, name, config, steps))
        assert checkpoint is not None
        states.append(checkpoint["model"]["head.weight"])
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_an_ended_run_goes_on_when_it_may_be_longer(tmp_path: Path) -> None:
    assert_same_run(run_in(tmp_path, "a", SMALL, 5), run_in(tmp_path, "b", SMALL, 3, 5))


def test_minutes_stop_a_run_and_count_over_resumptions(tmp_path: Path) -> None:
    config = replace(SMALL, minutes=0.01)
    first = train(config, tmp_path)
    assert first.step > 0
    assert train(config, tmp_path) == first


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path, "run", SMALL, 2)
    real = one_shot.label_loss

    def spoilt(logits: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        logits.register_hook(lambda gradient: gradient * float("nan"))  # a finite loss, a gradient that is not
        return real(logits, symbols)

    monkeypatch.setattr(one_shot, "label_loss", spoilt)
    with pytest.raises(CommandError, match="not finite"):
        train(replace(SMALL, steps=20, save_seconds=0.0), run)
    after = load_checkpoint(run)
    assert after is not None
    assert after["step"] == 2
