"""Gaussian processes as an experiment: the loss, the report beside the exact posterior, pictures, the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.gaussian_processes import report
from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.experiments.gaussian_processes.experiment import (
    LEAST_DEVIATION,
    FunctionScores,
    GaussianProcessExperiment,
    log_likelihood,
    measure,
    predicted,
)
from mannkern.experiments.gaussian_processes.pictures import curves, draw_all, maps, predict
from mannkern.experiments.gaussian_processes.report import Evaluation, evaluate, table, verdict
from mannkern.experiments.registry import train
from mannkern.tasks import GaussianProcessSampler
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED
from tests.commands.calls import refused, run

CPU = torch.device("cpu")
SMALL = GaussianProcessConfig(
    length=8, hidden_size=8, memory_slots=6, memory_width=4, num_reads=2, batch_size=3, log_every=2, validate_every=3,
    threads=1, steps=4,
)  # fmt: skip
SIZES = (
    "--length 8 --hidden-size 8 --memory-slots 6 --memory-width 4 --num-reads 2 --batch-size 3 --log-every 2 "
    "--validate-every 3 --threads 1 --episodes 20"
)


class Oracle(nn.Module):
    """Answers as the exact posterior does."""

    def forward(self, inputs: Tensor) -> Tensor:
        sampler = SMALL.sampler(0)
        functions = sampler.sample(inputs.shape[1], self.index)
        assert torch.equal(functions.inputs, inputs)
        mean, deviation = sampler.predictions(functions)
        return torch.stack((mean, (deviation - LEAST_DEVIATION).expm1().log()), -1)

    index = 0


class Zero(nn.Module):
    """Says 0 for the mean and the deviation, before the softplus."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(*inputs.shape[:2], 2)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    found = []
    for config in (SMALL, replace(SMALL, model="lstm")):
        folder = tmp_path_factory.mktemp(config.model)
        train(config, folder)
        found.append(evaluate(folder, config, 20))
    return found


def test_one_value_by_hand() -> None:
    """A standard Gaussian gives the value 1 the density 0.24197, whose logarithm is -1.41894 nats."""
    mean, deviation = predicted(torch.tensor([0.0, math.log(math.expm1(1 - LEAST_DEVIATION))]))
    assert log_likelihood(mean, deviation, torch.tensor(1.0)).item() == pytest.approx(-1.41894, abs=1e-5)
    experiment = GaussianProcessExperiment(SMALL)
    batch = experiment.sample(0, CPU)
    loss, sums = experiment.loss_and_sums(lambda x: torch.zeros(8, 3, 2), batch)  # type: ignore[arg-type]
    deviation = torch.tensor(LEAST_DEVIATION + math.log(2))
    torch.testing.assert_close(loss, -log_likelihood(torch.tensor(0.0), deviation, batch.targets).mean())
    found = experiment.summarize((2 * sums).tolist(), 2.0)
    assert found["log_likelihood"] == pytest.approx(-loss.item())
    assert found["root_mean_squared_error"] == pytest.approx(batch.targets.square().mean().sqrt().item())


def test_a_model_that_knows_the_process_scores_as_the_exact_posterior() -> None:
    scores = measure(Oracle(), SMALL.sampler(0), 20, CPU)
    assert scores.log_likelihood == pytest.approx(scores.exact, rel=1e-9)
    assert scores.error == pytest.approx(scores.exact_error, rel=1e-9)
    assert scores.exact[-1] > scores.exact[0], "points are worth something"
    assert scores.to_dict()["mean_log_likelihood"] == pytest.approx(sum(scores.exact) / 8)
    learned = Evaluation(Path("a"), SMALL, 4, scores)
    assert verdict(learned).startswith("The model learned: of the nats that the points are worth")
    nothing = scores._replace(log_likelihood=[scores.exact[0]] * 8)
    assert verdict(learned._replace(scores=nothing)).endswith("it has 0%.")


def test_a_model_and_the_exact_posterior_are_measured_on_the_same_functions() -> None:
    """Of 120 functions, in batches of 100 and 20; a model that always says 0 has the error y^2."""
    scores = measure(Zero(), SMALL.sampler(5), 120, CPU)
    batches = [SMALL.sampler(5).sample(100, 0), SMALL.sampler(5).sample(20, 1)]
    y = torch.cat([batch.targets for batch in batches], 1).double()
    mean, deviation = (torch.cat(parts, 1) for parts in zip(*map(SMALL.sampler(5).predictions, batches), strict=True))
    assert scores.error == pytest.approx(y.square().mean(1).tolist())
    assert scores.exact_error == pytest.approx((y - mean).square().mean(1).tolist())
    assert scores.exact == pytest.approx(log_likelihood(mean, deviation, y).mean(1).tolist())
    ours = log_likelihood(torch.tensor(0.0), torch.tensor(LEAST_DEVIATION + math.log(2)), y)
    assert scores.log_likelihood == pytest.approx(ours.mean(1).tolist())
    assert scores.interval == pytest.approx((1.96 * ours.std(1) / math.sqrt(120)).tolist())


def test_validation_and_evaluation_have_functions_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def note_sampler(model: nn.Module, sampler: GaussianProcessSampler, *others: Any) -> FunctionScores:
        measured.append(sampler)
        return measure(Zero(), sampler, 2, CPU)

    monkeypatch.setattr(report, "load_model", lambda *_: (Zero(), 7))
    monkeypatch.setattr(report, "measure", note_sampler)
    evaluate(tmp_path, SMALL, 20)
    for sampler, seed in ((GaussianProcessExperiment(SMALL).unseen, VALIDATION_SEED), (measured[0], EVALUATION_SEED)):
        assert torch.equal(sampler.sample(2, 0).inputs, SMALL.sampler(seed).sample(2, 0).inputs)


def test_the_record_and_the_table_stand_beside_the_exact_posterior(results: list[Evaluation]) -> None:
    record = json.loads((results[0].run / "evaluation.json").read_text())
    assert (record["step"], record["training_functions"], record["dimensions"]) == (4, 12, 1)
    assert len(record["log_likelihood"]) == len(record["exact"]) == len(record["interval_95"]) == 8
    assert record["exact_mean_log_likelihood"] > record["mean_log_likelihood"]
    lines = table(results).splitlines()
    assert "20 functions" in lines[0]
    assert lines[4].split() == ["points", "MANN", "LSTM", "exact", "posterior"]
    assert [line.split()[0] for line in lines[5:]] == ["0", "1", "2", "5", "mean"]


def test_validation_moves_no_generator(results: list[Evaluation]) -> None:
    experiment, state = GaussianProcessExperiment(SMALL), torch.get_rng_state()
    found = experiment.validate(experiment.make_model().train(), CPU)
    assert set(found) == {"log_likelihood", "exact_log_likelihood"}
    # the first call of make_model draws parameters; validation itself draws nothing of torch's generator
    again = torch.get_rng_state()
    model = experiment.make_model()
    torch.set_rng_state(state)
    assert experiment.validate(model, CPU)["exact_log_likelihood"] == found["exact_log_likelihood"]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(again, state)


def test_a_query_is_predicted_from_the_points_before_it_alone() -> None:
    """Two queries in one call are what each is alone, and other values change them."""
    model = GaussianProcessExperiment(SMALL).make_model()
    points, values = SMALL.sampler(0).points(1, 3, torch.Generator().manual_seed(0)), torch.ones(1, 3).double()
    queries = torch.tensor([[[0.5], [-1.0]]], dtype=torch.float64)
    both, _ = predict(model, points, values, queries, CPU)
    one, _ = predict(model, points, values, queries[:, 1:], CPU)
    torch.testing.assert_close(both[:, 1:], one, atol=1e-6, rtol=1e-5)
    other, _ = predict(model, points, -values, queries, CPU)
    assert not torch.allclose(both, other)


@pytest.mark.slow
def test_pictures(results: list[Evaluation], tmp_path: Path) -> None:
    paths = draw_all(results)
    names = ["learning_curve.png", "log_likelihood.png", "functions.png", "functions.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        assert matplotlib.image.imread(path).std() > 0.02
    (axes,) = curves(results[0], "MANN").axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines) == ["exact posterior", "MANN", "points"]
    assert len(lines["points"].get_data()[0]) == 5
    for dimensions in (2, 3):
        config = replace(SMALL, dimensions=dimensions, steps=0)
        folder = tmp_path / str(dimensions)
        folder.mkdir()
        train(config, folder)
        figure = maps(evaluate(folder, config, 10), "MANN")
        titles = [axes.get_title() for axes in figure.axes]
        assert titles[0] == ("the function" if dimensions == 2 else "the function, at x3 = 0")
        assert "exact posterior: deviation" in titles


@pytest.mark.slow
def test_the_command_line_trains_resumes_evaluates_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, options in (("mann", ""), ("lstm", " --model lstm")):
        sizes = SIZES if name == "mann" else "--length 8 --hidden-size 8 --batch-size 3 --threads 1 --episodes 20"
        assert run(f"train gaussian-processes --steps 4{options} --run", tmp_path / name, sizes) == 0
    out = capsys.readouterr().out
    for word in (
        "MANN on gaussian-processes",
        "12 functions of training",
        "functions.png",
        "model has not learned",
    ):
        assert word in out
    assert run("train --resume --steps 6 --no-evaluate --run", tmp_path / "mann") == 0
    assert run("evaluate --episodes 20", tmp_path / "mann", str(tmp_path / "lstm")) == 0
    assert "6 steps, 18 functions" in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / "mann")
    straight = tmp_path / "straight"
    straight.mkdir()
    train(replace(SMALL, steps=6), straight)
    expected = load_checkpoint(straight)
    assert checkpoint is not None
    assert expected is not None
    for name, value in expected["model"].items():
        assert torch.equal(value, checkpoint["model"][name]), name
    assert "--noise 0.05, not 0.1" in refused(capsys, "train --resume --noise 0.1 --run", tmp_path / "mann")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimensions": 4}, "dimensions: got 4, need at most 3"),
        ({"length": 0}, "--length: got 0, need at least 1"),
        ({"noise": 0.0}, "noise: got 0.0, need a number from 0.001 to 1000"),
        ({"seed": -1}, "--seed: got -1, need at least 0"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
