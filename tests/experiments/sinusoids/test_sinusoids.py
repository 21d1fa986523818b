"""Sinusoids as an experiment: the loss, the report and its interval, pictures, the command line, resuming."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch
from torch import Tensor, nn

from mannkern.__main__ import main
from mannkern.experiments.registry import train
from mannkern.experiments.sinusoids import report
from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.experiments.sinusoids.experiment import SinusoidExperiment, SinusoidScores, measure
from mannkern.experiments.sinusoids.pictures import adaptation, draw_all, learning_curve
from mannkern.experiments.sinusoids.report import STEPS, Evaluation, evaluate, table
from mannkern.tasks.sinusoids import SinusoidSampler
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED

CPU = torch.device("cpu")
SMALL = SinusoidConfig(
    shots=3, queries=4, width=4, hidden_size=5, inner_steps=2, batch_size=3, log_every=2, validate_every=3, threads=1,
    steps=4,
)  # fmt: skip
SIZES = (
    "--shots 3 --queries 4 --width 4 --hidden-size 5 --inner-steps 2 --batch-size 3 --log-every 2 --validate-every 3 "
    "--threads 1 --episodes 20"
)


class Zero(nn.Module):
    """Answers 0 everywhere; once adapted, the number of steps."""

    def adapt(self, support: Tensor, labels: Tensor, *, steps: int) -> Any:
        return lambda queries: torch.full_like(queries, float(steps))

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        return torch.zeros_like(queries)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name, first_order in (("second", False), ("first", True)):
        config = replace(SMALL, first_order=first_order)
        (folder / name).mkdir()
        train(config, folder / name)
        found.append(evaluate(folder / name, config, 20))
    return found


def test_example() -> None:
    """Answers of 0 to targets 1 and 7 have a mean squared error of (1 + 49) / 2 = 25, whose root is 5."""
    experiment = SinusoidExperiment(SMALL)
    batch = experiment.sample(0, CPU)
    loss, sums = experiment.loss_and_sums(Zero(), batch)
    torch.testing.assert_close(loss, batch.targets.square().mean())
    targets = torch.tensor([1.0, 7]).repeat(2).view(4, 1).expand(3, 4, 1)
    loss, sums = experiment.loss_and_sums(Zero(), batch._replace(targets=targets))
    assert loss.item() == 25
    assert sums.shape == (experiment.num_sums,)
    found = experiment.summarize((sums + sums).tolist(), 2.0)
    assert found == {"root_mean_squared_error": pytest.approx(5)}
    assert experiment.progress_text({"root_mean_squared_error": 1.234}) == "y to within 1.23"


def test_a_step_depends_on_the_seed_and_the_step_alone() -> None:
    one, other = SinusoidExperiment(SMALL), SinusoidExperiment(replace(SMALL, hidden_size=9))
    one.sample(0, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.sample(7, CPU), other.sample(7, CPU), strict=True))
    seeded = SinusoidExperiment(replace(SMALL, seed=1)).sample(7, CPU)
    assert not torch.equal(seeded.support, one.sample(7, CPU).support)


def test_the_error_after_steps_and_its_interval() -> None:
    """Against the same sinusoids at once; saying 1 more everywhere is an error of 1 + E[y^2] - 2 E[y]."""
    sampler = SinusoidSampler(3, 10, seed=5)
    scores = [measure(Zero(), sampler, steps, 250, CPU) for steps in (0, 1)]
    y = torch.cat([sampler.sample(200, 0).targets, sampler.sample(50, 1).targets]).double()
    for steps, found in enumerate(scores):
        each = (y - steps).square().mean((1, 2))
        assert (found.steps, found.tasks) == (steps, 250)
        assert found.error == pytest.approx(float(each.mean()), rel=1e-5)
        assert found.interval == pytest.approx(1.96 * float(each.std()) / math.sqrt(250), rel=1e-5)


def test_validation_and_evaluation_have_sinusoids_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def note_sampler(model: nn.Module, sampler: SinusoidSampler, *others: Any) -> SinusoidScores:
        measured.append(sampler)
        return measure(Zero(), sampler, 1, 2, CPU)

    monkeypatch.setattr(report, "load_model", lambda *_: (Zero(), 7))
    monkeypatch.setattr(report, "measure", note_sampler)
    evaluate(tmp_path, SMALL, 20)
    for sampler, seed in ((SinusoidExperiment(SMALL).unseen, VALIDATION_SEED), (measured[0], EVALUATION_SEED)):
        assert torch.equal(sampler.sample(2, 0).support, SinusoidSampler(3, 100, seed).sample(2, 0).support)


def test_validation_measures_the_loss_and_moves_no_generator() -> None:
    experiment = SinusoidExperiment(SMALL)
    model, state = experiment.make_model().train(), torch.get_rng_state()
    expected = measure(model, experiment.unseen, SMALL.inner_steps, 200, CPU).error
    assert experiment.validate(model, CPU) == {"loss": expected}
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_record_has_every_number_of_steps(results: list[Evaluation]) -> None:
    record = json.loads((results[1].run / "evaluation.json").read_text())
    assert [entry["steps"] for entry in record["by_steps"]] == list(STEPS) == [0, 1, 5, 10]
    assert (record["step"], record["training_sinusoids"], record["shots"]) == (4, 12, 3)
    assert (record["inner_steps_of_training"], record["first_order"]) == (2, True)
    assert all(entry["mean_squared_error"] > 0 and entry["tasks"] == 20 for entry in record["by_steps"])


def test_the_table_has_a_column_for_each_run_and_says_where_it_diverges() -> None:
    errors = ((4.0, 0.5, 0.25, 0.125), (4.0, 1.0, 0.5, math.inf))
    runs = [
        Evaluation(Path(name), SMALL, 8, [SinusoidScores(s, 1000, e, 0.01) for s, e in zip(STEPS, error, strict=True)])
        for name, error in zip("ab", errors, strict=True)
    ]
    lines = table(runs).splitlines()
    assert "from 3 points" in lines[0]
    assert "1,000 sinusoids" in lines[0]
    assert lines[1:3] == [f"META-MEMORY {name}: 8 steps, 24 sinusoids of training" for name in "ab"]
    assert lines[3] == "META-MEMORY a: 2 steps of adaptation in training, second order"
    assert lines[6].split() == ["steps", "META-MEMORY", "a", "META-MEMORY", "b"]
    assert lines[8].split() == "1 0.5000 ± 0.0100 1.0000 ± 0.0100".split()  # noqa: SIM905
    assert lines[10].split() == "10 0.1250 ± 0.0100 diverges".split()  # noqa: SIM905
    assert SinusoidScores(10, 5, math.inf, math.nan).to_dict() == {
        "steps": 10, "tasks": 5, "mean_squared_error": None, "interval_95": None,
    }  # fmt: skip


@pytest.mark.slow
def test_pictures(results: list[Evaluation]) -> None:
    paths = draw_all(results)
    names = [path.relative_to(path.parents[2]).as_posix() for path in paths]
    assert names == [
        f"{run}/pictures/{name}.png" for run in ("second", "first") for name in ("learning_curve", "adaptation")
    ]
    for path in paths:
        assert matplotlib.image.imread(path).std() > 0.02
    (axes,) = learning_curve(results).axes
    assert len(axes.get_lines()) == 4
    assert axes.get_yscale() == "log"


def test_the_picture_of_adaptation_shows_the_points_and_each_curve(results: list[Evaluation]) -> None:
    panels = adaptation(results[0], "META-MEMORY").axes
    assert len(panels) == 3
    for axes in panels:
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert list(lines) == ["the sinusoid", "after 0 steps", "after 1 step", "after 2 steps", "points shown"]
        x, y = (torch.as_tensor(part) for part in lines["points shown"].get_data())
        curve_x, curve_y = (torch.as_tensor(part) for part in lines["the sinusoid"].get_data())
        assert len(x) == 3
        nearest = (x[:, None] - curve_x).abs().argmin(1)
        torch.testing.assert_close(curve_y[nearest], y, atol=0.15, rtol=0)  # half a step of x, of slope 5 at most


@pytest.mark.slow
def test_the_command_line_trains_resumes_evaluates_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, options in (("one", ""), ("two", " --first-order")):
        assert main(f"train sinusoids --steps 4 --run {tmp_path / run} {SIZES}{options}".split()) == 0
    out = capsys.readouterr().out
    for word in ("META-MEMORY on sinusoids", "first order", "12 sinusoids of training", "adaptation.png"):
        assert word in out
    assert main(f"train --run {tmp_path / 'one'} --resume --steps 6 --no-evaluate".split()) == 0
    assert main(f"evaluate {tmp_path / 'one'} {tmp_path / 'two'} --episodes 20".split()) == 0
    assert "6 steps, 18 sinusoids" in capsys.readouterr().out
    assert main(f"train --run {tmp_path / 'one'} --resume --inner-steps 3".split()) == 2
    assert "--inner-steps 2, not 3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("first_order", [False, True])
def test_resuming_equals_never_having_stopped(tmp_path: Path, first_order: bool) -> None:
    states = []
    for name, stops in (("straight", (5,)), ("stopped", (3, 5))):
        (tmp_path / name).mkdir()
        for stop in stops:
            train(replace(SMALL, steps=stop, first_order=first_order), tmp_path / name)
        state = load_checkpoint(tmp_path / name)
        assert state is not None
        states.append(state)
    assert states[0]["model"].keys() == states[1]["model"].keys()
    assert any(name.startswith("step_sizes") for name in states[0]["model"])
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    assert torch.equal(states[0]["running_sums"], states[1]["running_sums"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_steps": -1}, "--inner-steps: got -1, need at least 0"),
        ({"step_size": 0.0}, "--step-size: got 0.0, need a number above 0"),
        ({"shots": 0}, "--shots: got 0, need at least 1"),
        ({"hidden_size": 0}, "--hidden-size: got 0, need at least 1"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_a_seed_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="--seed: got -1, need at least 0"):
        replace(SMALL, seed=-1)
