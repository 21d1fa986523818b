"""The pictures draw whatever a run holds, also one that has hardly begun."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.pictures import (
    _paint,
    accuracy_by_classes,
    accuracy_by_instance,
    accuracy_of_rows,
    draw_all,
    learning_curve,
    memory,
)
from mannkern.experiments.one_shot.report import Evaluation, evaluate
from mannkern.experiments.registry import train
from mannkern.tasks import glyphs
from mannkern.training.drawing import panels_of

SMALL = OneShotConfig(
    classes=2, length=6, hidden_size=8, memory_slots=6, memory_width=4, num_reads=2, batch_size=2, log_every=3,
    validate_every=4, threads=1, steps=8, balanced=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    split = glyphs.load(num_train=6, num_test=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "load", lambda: split)
        runs = []
        for config in (SMALL, replace(SMALL, model="lstm")):
            run = tmp_path_factory.mktemp(config.model)
            train(config, run)
            runs.append(evaluate(run, config, 10))
        return runs


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_two_weights_by_hand() -> None:
    """One step, two slots, white at 0: the weight 0 is white, the largest one has the colour of class 1, #d9622b."""
    _, (axes,) = panels_of("", 1, (2.0, 2.0))
    _paint(axes, torch.tensor([[0.0, 0.5]]), [1], white=0.0)
    pixels = axes.images[0].get_array()
    assert pixels.shape == (2, 1, 3)
    assert pixels[0, 0].tolist() == [1, 1, 1]
    assert (255 * pixels[1, 0]).round().tolist() == [0xD9, 0x62, 0x2B]


@pytest.mark.slow
def test_all_pictures_are_written(results: list[Evaluation]) -> None:
    paths = draw_all(results)
    assert [path.name for path in paths] == [
        "learning_curve.png", "accuracy_by_instance.png", "memory.png", "learning_curve.png",
    ]  # fmt: skip
    for path in paths:
        height, width, _ = matplotlib.image.imread(path).shape
        assert height > 500
        assert width > 1000
    assert not list(paths[0].parent.glob("*.tmp"))


def test_a_run_without_metrics_has_a_learning_curve(results: list[Evaluation], tmp_path: Path) -> None:
    figure = learning_curve(results[0]._replace(run=tmp_path), "MANN")
    assert len(figure.axes) == 2


def test_runs_are_overlaid_with_chance(results: list[Evaluation]) -> None:
    axes = accuracy_by_instance(results).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "MANN, unseen classes", "MANN, training classes", "LSTM, unseen classes", "LSTM, training classes",
    ]  # fmt: skip
    assert "chance" in [text.get_text() for text in axes.texts]


def test_the_memory_picture_has_a_pixel_for_each_slot_and_step(results: list[Evaluation]) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    write, read, strip = memory(results[0], "MANN").axes
    assert torch.equal(torch.get_rng_state(), state)
    for axes in (write, read):
        assert axes.images[0].get_array().shape == (6, 6, 3)
    assert sum(text.get_text().isdigit() for text in strip.texts) == 6


def test_a_curriculum_is_drawn_by_classes(results: list[Evaluation]) -> None:
    config = replace(SMALL, labels="strings", curriculum=True)
    scores = results[0].unseen
    result = results[0]._replace(config=config, by_classes={2: scores, 25: scores, 100: scores})
    axes = accuracy_by_classes(result, "MANN").axes[0]
    assert axes.get_xticks().tolist() == [2, 25, 100]
    assert len(axes.containers) == 6, "a line for each instance of the table"


def test_an_instance_that_never_comes_is_left_out(results: list[Evaluation]) -> None:
    axes = accuracy_by_instance(results).axes[0]
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == [1, 2, 3], "six steps of two classes"
    assert axes.collections[0].get_paths()[0].vertices[:, 0].max() == 3


def test_rows_that_learn_nothing_are_broken_lines(results: list[Evaluation]) -> None:
    scores = {"kNN": results[1].unseen, "other kNN": results[1].unseen, "MANN": results[0].unseen}
    axes = accuracy_of_rows(SMALL, scores, ["MANN"]).axes[0]
    styles = {line.get_label(): line.get_linestyle() for line in axes.get_lines()}
    assert (styles["kNN"], styles["other kNN"], styles["MANN"]) == ("--", ":", "-")
