"""Few-shot images through the command line, on a generated data set of mini-ImageNet's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mannkern.experiments.few_shot.experiment import FewShotScores
from mannkern.experiments.few_shot_images import report
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.experiments.few_shot_images.experiment import FewShotImagesExperiment
from mannkern.tasks import ImageSampler, images
from tests.commands.calls import refused, run
from tests.tasks.test_images import write_images

SIZES = (
    "--classes 2 --shots 1 --queries 2 --side 16 --width 4 --hidden-size 5 --batch-size 2 --log-every 2 "
    "--validate-every 4 --threads 1 --episodes 10"
)


def test_the_command_line_trains_resumes_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, classes in (("train", 4), ("val", 3), ("test", 2)):
        write_images(tmp_path / "data", part, classes)
    assert run("train few-shot-images --steps 4 --data", tmp_path / "data", "--run", tmp_path / "run", SIZES) == 0
    out = capsys.readouterr().out
    for word in ("META-MEMORY on few-shot-images", "2-way 1-shot: 10 episodes", "8 episodes of training", "50.0%"):
        assert word in out
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert record["unseen"]["episodes"] == 10
    assert run("train --resume --steps 5 --no-evaluate --run", tmp_path / "run") == 0
    head, *rows = (tmp_path / "data" / "train.csv").read_text().splitlines()
    (tmp_path / "data" / "train.csv").write_text("\n".join([head, *rows[::-1]]))
    said = refused(capsys, "train --resume --steps 6 --no-evaluate --run", tmp_path / "run")
    assert "--data: got other data than the run began with" in said, "the order of a list decides what is drawn"
    assert "needs its folder: --data FOLDER" in refused(capsys, "train few-shot-images --run", tmp_path / "new")


def test_each_part_has_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, validation and evaluation, whose classes differ in number here."""
    for part, classes in (("train", 4), ("val", 3), ("test", 2)):
        write_images(tmp_path, part, classes)
    config = FewShotImagesConfig(data=str(tmp_path), classes=2, queries=2, side=16)
    experiment, measured = FewShotImagesExperiment(config), []

    def note_sampler(model: nn.Module, sampler: ImageSampler, episodes: int, device: torch.device) -> FewShotScores:
        measured.append(sampler)
        return FewShotScores(episodes, 1.0, 0.5, 0.1)

    monkeypatch.setattr(report, "load_model", lambda *_: (nn.Identity(), 7))
    monkeypatch.setattr(report, "measure", note_sampler)
    assert report.evaluate(tmp_path, config, 20).unseen.episodes == 20
    for sampler, part in ((experiment.sampler, "train"), (experiment.unseen, "val"), (measured[0], "test")):
        assert torch.equal(sampler.images.pixels, torch.cat(images.load(tmp_path, part, 16)))


@pytest.mark.parametrize(
    ("options", "damage", "said"),
    [
        ("--classes 3", lambda data: None, "--classes: got 3, need at most 2, those of test.csv"),
        ("--classes 5", lambda data: None, "--classes: got 5, need at most 4, those of train.csv"),
        ("--queries 4", lambda data: None, "--shots and --queries: got 1 and 4, need at most 4 together, the images"),
        ("", lambda data: (data / "test.csv").unlink(), "test.csv"),
        ("", lambda data: (data / "val.csv").write_text("filename,label\n"), "val.csv: got no images, need some"),
        ("", lambda data: (data / "test.csv").write_bytes(b"\xff"), "need the columns filename and label"),
        ("", lambda data: (data / "images" / "test1.png").unlink(), "test.csv: got test1.png, need a file"),
    ],
)
def test_what_a_list_lacks_is_told_before_training(
    tmp_path: Path, options: str, damage: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where only the evaluation would read it."""
    for part, classes in (("train", 4), ("val", 3), ("test", 2)):
        write_images(tmp_path / "data", part, classes)
    damage(tmp_path / "data")
    command = f"train few-shot-images --steps 1 {SIZES} {options} --data {tmp_path / 'data'} --run {tmp_path / 'new'}"
    assert said in refused(capsys, command)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


def test_runs_compare_on_the_images_of_one_folder_alone(tmp_path: Path) -> None:
    config = FewShotImagesConfig(data=str(tmp_path / "a"))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for change in ({"data": str(tmp_path / "b")}, {"shots": 5}, {"side": 40}, {"classes": 3}):
        assert config.comparable != replace(config, **change).comparable  # type: ignore[arg-type]
    assert config.comparable == replace(config, data=str(tmp_path / "link"), queries=3, lr=1.0).comparable
