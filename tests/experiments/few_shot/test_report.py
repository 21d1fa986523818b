"""The report and the pictures of few-shot runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.experiment import FewShotExperiment, FewShotScores, measure
from mannkern.experiments.few_shot.pictures import draw_all, episode, learning_curve
from mannkern.experiments.few_shot.report import Evaluation, evaluate, table
from mannkern.experiments.registry import train
from mannkern.tasks import FewShotSampler, glyphs
from mannkern.training.errors import CommandError
from mannkern.training.experiment import EVALUATION_SEED, VALIDATION_SEED
from mannkern.training.runtime import load_model

SMALL = FewShotConfig(
    classes=3, shots=2, queries=2, width=4, batch_size=2, steps=5, log_every=2, validate_every=2, threads=1
)


def result(run: str, config: FewShotConfig, level: float) -> Evaluation:
    scores = FewShotScores(1000, 1.0, level, 0.01)
    return Evaluation(Path(run), config, 12, scores, scores._replace(accuracy=level + 0.1))


def test_example() -> None:
    """12 steps of 16 episodes are 192 episodes of training; among 5 classes chance is 1/5."""
    config = FewShotConfig(shots=5, batch_size=16)
    lines = table([result("a", config, 0.8), result("b", replace(config, model="matching-fce"), 0.6)]).splitlines()
    assert lines[0].startswith("few-shot-glyphs, accuracy 5-way 5-shot: 1,000 episodes")
    assert lines[1] == "MATCHING: 12 steps, 192 episodes of training"
    assert lines[4].split() == ["MATCHING", "MATCHING-FCE", "chance"]
    assert lines[5].split() == ["unseen", "classes", "80.0%", "±", "1.0%", "60.0%", "±", "1.0%", "20.0%"]
    assert lines[6].split()[:3] == ["training", "classes", "90.0%"]


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=8, num_test=7)
    monkeypatch.setattr(glyphs, "load", lambda: split)


@pytest.fixture
def results(tmp_path: Path) -> list[Evaluation]:
    found = []
    for model in ("matching", "matching-fce"):
        run = tmp_path / model
        run.mkdir()
        config = replace(SMALL, model=model)
        train(config, run)
        found.append(evaluate(run, config, 20))
    return found


def test_the_papers_figure_stands_where_it_compares() -> None:
    config = FewShotConfig(task="few-shot-omniglot", classes=20)
    lines = table([result("a", config, 0.8)]).splitlines()
    assert lines[3].endswith("chance   paper's MATCHING")
    assert lines[4].split()[-2:] == ["5.0%", "93.8%"]
    assert lines[5].split()[-1] == "-"
    assert table([result("a", replace(config, model="meta-networks"), 0.8)]).splitlines()[4].split()[-1] == "97.0%"
    for other in (replace(config, classes=7), replace(config, model="matching-fce"), FewShotConfig()):
        assert "paper" not in table([result("a", other, 0.8)])


def test_runs_with_many_classes_are_measured_with_five_too() -> None:
    """The paper's figure for five classes stands in their column."""
    config = FewShotConfig(task="few-shot-omniglot", model="meta-networks", classes=20)
    lines = table([result("a", config, 0.8)._replace(fewer=FewShotScores(1000, 1.0, 0.95, 0.02))]).splitlines()
    assert lines[-1].split() == ["unseen,", "5-way", "95.0%", "±", "2.0%", "20.0%", "99.0%"]
    ten = result("a", replace(config, classes=10), 0.8)._replace(fewer=FewShotScores(1000, 1.0, 0.95, 0.02))
    assert [line.split()[-1] for line in table([ten]).splitlines()[-3:]] == ["-", "-", "99.0%"]


def test_the_scores_with_five_classes(tmp_path: Path) -> None:
    config = replace(SMALL, classes=6, model="meta-networks")
    train(config, tmp_path)
    found, record = evaluate(tmp_path, config, 20), json.loads((tmp_path / "evaluation.json").read_text())
    assert found.fewer is not None
    assert record["unseen_by_classes"] == {"5": found.fewer.to_dict()}
    model, _ = load_model(tmp_path, FewShotExperiment(config), torch.device("cpu"))
    sampler = FewShotSampler(glyphs.load().test, classes_per_episode=5, shots=2, queries=5, seed=EVALUATION_SEED)
    assert found.fewer == measure(model, sampler, 20, torch.device("cpu"))


def test_unseen_and_seen_classes_are_those_of_test_and_training(tmp_path: Path) -> None:
    train(SMALL, tmp_path)
    found, experiment, split = evaluate(tmp_path, SMALL, 20), FewShotExperiment(SMALL), glyphs.load()
    model, _ = load_model(tmp_path, experiment, torch.device("cpu"))
    for scores, images in ((found.unseen, split.test), (found.seen, split.train)):
        sampler = FewShotSampler(images, classes_per_episode=3, shots=2, queries=5, seed=EVALUATION_SEED)
        assert scores == measure(model, sampler, 20, torch.device("cpu"))
    validation = FewShotSampler(split.test, classes_per_episode=3, shots=2, queries=5, seed=VALIDATION_SEED)
    pairs = zip(experiment.unseen.sample(2, 0), validation.sample(2, 0), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_evaluation_is_written_and_the_same_every_time(results: list[Evaluation]) -> None:
    first = results[0]
    record = json.loads((first.run / "evaluation.json").read_text())
    assert (record["step"], record["training_episodes"], record["model"]) == (5, 10, "matching")
    assert (record["classes"], record["shots"], record["queries"], record["chance"]) == (3, 2, 5, 1 / 3)
    assert record["unseen"] == first.unseen.to_dict()
    assert record["seen"]["episodes"] == 20
    torch.rand(3)
    assert evaluate(first.run, first.config, 20) == first


def test_a_run_without_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no checkpoint yet"):
        evaluate(tmp_path, SMALL, 20)


@pytest.mark.slow
def test_every_picture_is_drawn(results: list[Evaluation]) -> None:
    paths = draw_all(results)
    one, other = (item.run / "pictures" for item in results)
    assert paths == [
        one / "learning_curve.png", one / "episode.png", other / "learning_curve.png", other / "episode.png",
    ]  # fmt: skip
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths)


def test_the_learning_curve_shows_every_line_of_the_metrics(results: list[Evaluation]) -> None:
    top, bottom = learning_curve(results).axes
    for axes in (top, bottom):
        training, unseen = axes.lines[:2]
        assert training.get_xdata().tolist() == [4, 8]
        assert unseen.get_xdata().tolist() == [4, 8, 10]
    lines = [json.loads(line) for line in (results[1].run / "metrics.jsonl").read_text().splitlines()]
    accuracies = [100 * line["accuracy"] for line in lines if line["kind"] == "validation"]
    assert bottom.lines[3].get_ydata().tolist() == accuracies
    assert [text.get_text() for text in bottom.get_legend().get_texts()] == [
        "MATCHING, training batches", "MATCHING, unseen classes",
        "MATCHING-FCE, training batches", "MATCHING-FCE, unseen classes", "chance",
    ]  # fmt: skip


def test_the_episode_shows_support_queries_and_probabilities(results: list[Evaluation]) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    figure = episode(results[0], "MATCHING")
    assert torch.equal(torch.get_rng_state(), state)
    above, left, middle = figure.axes
    assert above.images[0].get_array().shape == (2 * 22, 3 * 22)
    assert left.images[0].get_array().shape == (10 * 22, 22)
    percent = torch.tensor(middle.images[0].get_array())
    assert percent.shape == (10, 3)
    torch.testing.assert_close(percent.sum(1), torch.full((10,), 100.0))
    assert len(middle.patches) == 10, "a frame for each query"
    framed = [round(patch.get_x() + 0.47) for patch in middle.patches]
    wrong = sum(int(row.argmax()) != right for row, right in zip(percent, framed, strict=True))
    assert sum(text.get_text() == "x" for text in middle.texts) == wrong
