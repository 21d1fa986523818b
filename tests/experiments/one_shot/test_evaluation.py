"""Which episodes each score of an evaluation is of: the classes, the drawings, their number and the seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.one_shot import experiment as one_shot
from mannkern.experiments.one_shot import report
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.report import evaluate
from mannkern.experiments.one_shot.scores import Scores
from mannkern.tasks import CharacterSplit, glyphs
from mannkern.tasks.characters.episodes import Episodes, EpisodeSampler
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED


def quarter_dark(ink: int, classes: int) -> Tensor:
    """(classes, 20, 20, 20) uint8: grey, and half as dark in the upper left quarter."""
    images = torch.full((classes, 20, 20, 20), ink, dtype=torch.uint8)
    images[..., :10, :10] //= 2
    return images


def what_is_shown(episodes: Episodes) -> set[str]:
    """What is particular to these episodes of ``quarter_dark``."""
    ink = (255 * episodes.inputs[..., :400]).round().view(-1, 2, 10, 2, 10)
    found = {"training": ink.max() == 100, "shifted": ink.min() == 0}
    found["turned"] = len(ink.sum((2, 4)).flatten(1).argmin(1).unique()) > 1
    found["unequal"] = len(episodes.instances.amax(0).unique()) > 1
    return {name for name, is_so in found.items() if is_so}


def test_each_score_is_of_the_episodes_that_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = CharacterSplit(quarter_dark(100, 6), quarter_dark(200, 6))
    measured: list[Episodes] = []

    def note_episodes(model: nn.Module, sampler: EpisodeSampler, episodes: int, device: torch.device) -> Scores:
        measured.append(sampler.sample(5, 0))
        return Scores(episodes, len(measured) - 1, 0.5, [math.nan] * 10, [math.nan] * 10)

    monkeypatch.setattr(glyphs, "load", lambda: split)
    monkeypatch.setattr(report, "load_model", lambda *_: (nn.Identity(), 7))
    monkeypatch.setattr(report, "measure", note_episodes)
    config = OneShotConfig(classes=3, image_scale="255")
    found = evaluate(tmp_path, config, 20)
    names = ("unseen", "augmented", "seen", "other", "other_augmented")
    assert {name: what_is_shown(measured[int(getattr(found, name).loss)]) for name in names} == {
        "unseen": {"unequal"},
        "augmented": {"unequal", "shifted", "turned"},
        "seen": {"unequal", "training"},
        "other": set(),
        "other_augmented": {"shifted", "turned"},
    }
    expected = one_shot.test_sampler(config, split.test, EVALUATION_SEED).sample(5, 0)
    assert torch.equal(measured[0].targets, expected.targets)
    unseen = one_shot.OneShotExperiment(config).unseen.sample(5, 0)
    expected = one_shot.test_sampler(config, split.test, VALIDATION_SEED).sample(5, 0)
    assert all(torch.equal(a, b) for a, b in zip(unseen, expected, strict=True)), "validation is on unseen classes too"


def test_more_classes_are_measured_on_fewer_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A curriculum begins with 15: 300 episodes of them have as many drawings as 45 of 100."""
    split = CharacterSplit(quarter_dark(100, 15), quarter_dark(200, 100))
    nothing = Scores(0, 1.0, 0.5, [math.nan] * 10, [math.nan] * 10)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    monkeypatch.setattr(report, "load_model", lambda *_: (nn.Identity(), 7))
    monkeypatch.setattr(report, "measure", lambda model, sampler, episodes, device: nothing._replace(episodes=episodes))
    found = evaluate(tmp_path, OneShotConfig(classes=15, labels="strings", curriculum=True), 300)
    numbers = {classes: scores.episodes for classes, scores in found.by_classes.items()}
    assert {classes: numbers[classes] for classes in (15, 25, 50, 100)} == {15: 300, 25: 180, 50: 90, 100: 45}
