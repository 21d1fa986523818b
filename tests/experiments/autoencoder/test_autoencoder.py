"""The autoencoder as an experiment: its loss, the report in the paper's two shapes, pictures, the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch

from mannkern.experiments.autoencoder.config import AutoencoderConfig
from mannkern.experiments.autoencoder.experiment import AutoencoderExperiment, episodes_of, score
from mannkern.experiments.autoencoder.pictures import draw_all
from mannkern.experiments.autoencoder.report import evaluate, table
from mannkern.experiments.one_shot.experiment import test_sampler
from mannkern.experiments.one_shot.scores import measure
from mannkern.experiments.registry import train
from mannkern.models import Autoencoder, NearestNeighbours
from mannkern.tasks import DrawingSampler, glyphs
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED
from mannkern.training.runtime import load_model, make_optimizer
from tests.commands.calls import refused, run

CPU = torch.device("cpu")
SMALL = AutoencoderConfig(
    hidden_size=8, width=4, batch_size=4, log_every=2, validate_every=4, threads=1, steps=4,
)  # fmt: skip

test_sampler.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=20)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_logits_of_zero_by_hand() -> None:
    """Every pixel is said to be 1/2: the loss is ln 2 a pixel."""
    experiment = AutoencoderExperiment(SMALL)
    batch = experiment.sample(0, CPU)
    assert batch.shape == (4, 400)
    loss, sums = experiment.loss_and_sums(lambda x: torch.zeros_like(x), batch)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(math.log(2))
    expected = float((batch - 0.5).square().mean())
    assert experiment.summarize((3 * sums).tolist(), 3.0) == {"mean_squared_error": pytest.approx(expected)}


def test_codes_that_keep_everything_score_as_pixels_do() -> None:
    model = Autoencoder(400, (400,))
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.eye(400))
        model.encoder[0].bias.zero_()
    images = glyphs.load().test
    found = score(model, SMALL, images, 5, 7, 10, CPU)
    sampler = test_sampler(episodes_of(SMALL, 5), images, 7)
    pixels = measure(NearestNeighbours(25), sampler, 10, CPU)
    assert found.by_instance == pytest.approx(pixels.by_instance)
    config = episodes_of(replace(SMALL, task="autoencoder-omniglot", data="somewhere", split="alphabets"), 15)
    assert (config.task, config.data, config.split) == ("omniglot", "somewhere", "alphabets")
    assert (config.classes, config.length, config.balanced, config.labels) == (15, 100, False, "strings")


def test_it_is_measured_on_unseen_classes(tmp_path: Path) -> None:
    train(SMALL, tmp_path)
    experiment, unseen = AutoencoderExperiment(SMALL), glyphs.load().test
    model, _ = load_model(tmp_path, experiment, CPU)
    found = evaluate(tmp_path, SMALL, 4).by_classes
    assert {classes: scores.by_instance[:5] for classes, scores in found.items()} == {
        classes: score(model, SMALL, unseen, classes, EVALUATION_SEED, 4, CPU).by_instance[:5] for classes in (5, 15)
    }
    assert torch.equal(experiment.unseen, DrawingSampler(unseen, seed=VALIDATION_SEED).sample(1000, 0))


@pytest.mark.slow
def test_the_command_line_trains_resumes_evaluates_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--hidden-size 8 --width 4 --batch-size 4 --log-every 2 --validate-every 4 --threads 1 --episodes 4"
    assert run("train autoencoder-glyphs --steps 4 --run", tmp_path / "run", sizes) == 0
    out = capsys.readouterr().out
    for word in ("AUTOENCODER on autoencoder-glyphs", "16 drawings of training", "15 classes, nearest", ".png"):
        assert word in out
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(record["unseen_by_classes"]) == {"5", "15"}
    assert "loss" not in record["unseen_by_classes"]["5"]
    assert run("train --resume --steps 6 --no-evaluate --run", tmp_path / "run") == 0
    (tmp_path / "straight").mkdir()
    train(replace(SMALL, steps=6), tmp_path / "straight")
    one, other = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "straight")
    assert one is not None
    assert other is not None
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    result = evaluate(tmp_path / "straight", replace(SMALL, steps=6), 4)
    assert "paper" not in table([result]), "the paper has no glyphs"
    omniglot = result._replace(config=replace(SMALL, task="autoencoder-omniglot"))
    assert "77.5%" in table([omniglot])
    assert "60.0%" in table([omniglot])
    for path in draw_all([result]):
        assert matplotlib.image.imread(path).std() > 0.02
    assert "needs its folder: --data FOLDER" in refused(capsys, "train autoencoder-omniglot --run", tmp_path / "new")


def test_runs_on_other_classes_do_not_compare() -> None:
    config = AutoencoderConfig(task="autoencoder-omniglot", data="a")
    assert config.comparable == replace(config, data="b", width=8).comparable
    assert config.comparable != replace(config, split="other").comparable


def test_the_last_layer_keeps_adam_under_muon() -> None:
    """It is ``decoder.4``, and the code's layer, ``encoder.4``, is a hidden one."""
    config = AutoencoderConfig(optimizer="muon", hidden_size=6, width=3)
    model = AutoencoderExperiment(config).make_model()
    matrices = make_optimizer(config, model).param_groups[1]["params"]
    hidden = [model.get_parameter(f"{name}.weight") for name in ("encoder.4", "decoder.2")]
    assert all(any(x is matrix for matrix in matrices) for x in hidden)
    assert all(matrix is not model.get_parameter("decoder.4.weight") for matrix in matrices)
