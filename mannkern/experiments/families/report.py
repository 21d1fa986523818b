"""The report on families of tasks: accuracy of one network on unseen classes, by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.families.config import FamiliesConfig
from mannkern.experiments.families.experiment import FAMILIES, FamiliesExperiment
from mannkern.experiments.few_shot.experiment import FewShotScores
from mannkern.training.drawing import INK, name_training_axis, panels_of, run_colour, save, side_legend
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.metrics import read_metrics
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation


class Evaluation(NamedTuple):
    """A run's scores on unseen classes, by family."""

    run: Path
    config: FamiliesConfig
    step: int
    unseen: Mapping[str, FewShotScores]


def evaluate(run: Path, config: FamiliesConfig, episodes: int = 1000) -> Evaluation:
    """Score a run on ``episodes`` episodes of unseen classes of each family; write ``evaluation.json``.

    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment, device = FamiliesExperiment(config), usable_device(config)
    model, step = load_model(run, experiment, device)
    unseen = experiment.measure(model, EVALUATION_SEED, episodes, device)
    record = {
        "step": step,
        "training_episodes_of_each_family": step * config.batch_size,
        "model": config.model,
        "classes": config.classes,
        "shots": config.shots,
        "chance": 1 / config.classes,
        "unseen_by_family": {name: scores.to_dict() for name, scores in unseen.items()},
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, unseen)


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes: a line for each family, a column for each run, and one for chance."""
    config = results[0].config
    columns = [["", "by a description", "by one example", f"by {config.shots} examples"]]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, *(f"{s.accuracy:.1%} ± {s.interval:.1%}" for s in result.unseen.values())])
    columns.append(["chance", *[f"{1 / config.classes:.1%}"] * len(FAMILIES)])
    episodes = next(iter(results[0].unseen.values())).episodes
    head = (
        f"{config.task}, one network, accuracy {config.classes}-way on unseen classes: {episodes:,} episodes of each "
        "family, ± half a 95% interval over episodes"
    )
    return "\n".join([head, *training_lines(results, "episodes of each family"), "", *side_by_side(columns)])


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw the learning curve of every run, a line for each family; returns the paths."""
    paths = []
    for name, result in zip(run_names(results), results, strict=True):
        figure, (axes,) = panels_of(f"{name}: one network, three families of tasks", 1, (9.5, 4.6))
        lines = [line for line in read_metrics(result.run) if line["kind"] == "validation"]
        for place, family in enumerate(FAMILIES):
            y = [100 * line["accuracy_by_family"][family] for line in lines]
            axes.plot([line["episodes"] for line in lines], y, color=run_colour(place), marker=".", label=family)
        axes.axhline(100 / result.config.classes, color=INK, lw=1, ls=":", label="chance")
        axes.set_ylabel("accuracy on unseen classes (%)")
        axes.set_ylim(0, 101)
        name_training_axis(axes, "episodes of each family")
        side_legend(axes, title="classes by")
        paths.append(save(figure, result.run, "learning_curve.png"))
    return paths
