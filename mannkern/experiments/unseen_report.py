"""The report of models that answer queries of unseen classes: accuracy on fresh episodes, and its learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mannkern.experiments.few_shot.experiment import FewShotScores
from mannkern.training.drawing import INK, draw_curve, name_training_axis, panels_of, run_colour, save, side_legend
from mannkern.training.tables import run_names, side_by_side, training_lines


class Evaluation(NamedTuple):
    """A run's scores on unseen classes. Its settings have ``classes``, and ``shape``, what an episode is called."""

    run: Path
    config: Any
    step: int
    unseen: FewShotScores


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes: a column for each run, and one for chance."""
    config = results[0].config
    columns = [["", "unseen classes"]]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, f"{result.unseen.accuracy:.1%} ± {result.unseen.interval:.1%}"])
    columns.append(["chance", f"{1 / config.classes:.1%}"])
    head = (
        f"{config.task}, accuracy {config.shape}: {results[0].unseen.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )
    return "\n".join([head, *training_lines(results, "episodes"), "", *side_by_side(columns)])


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw accuracy of all runs against episodes of training, into the first run's folder; returns the path."""
    config = results[0].config
    figure, (axes,) = panels_of(f"{config.task}, {config.shape}: learning curve", 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        labels = (f"{name}, training batches", f"{name}, unseen classes")
        draw_curve(axes, result.run, "accuracy", "episodes", run_colour(place), labels, scale=100)
    axes.axhline(100 / config.classes, color=INK, lw=1, ls=":", label="chance")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 101)
    name_training_axis(axes, "episodes")
    side_legend(axes)
    return [save(figure, results[0].run, "learning_curve.png")]
