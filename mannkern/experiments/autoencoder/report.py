"""The report on the autoencoder: accuracy of the nearest neighbour in its codes, as in Table 2 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.autoencoder.config import AutoencoderConfig
from mannkern.experiments.autoencoder.experiment import SHAPES, AutoencoderExperiment, episodes_of, score
from mannkern.experiments.one_shot import paper
from mannkern.experiments.one_shot.report import accuracies, headline, instances
from mannkern.experiments.one_shot.scores import Scores
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation

PAPER_ROW = "kNN, autoencoder"


class Evaluation(NamedTuple):
    """A run's scores on unseen classes by the number of classes in an episode."""

    run: Path
    config: AutoencoderConfig
    step: int
    by_classes: Mapping[int, Scores]


def evaluate(run: Path, config: AutoencoderConfig, episodes: int = 1000) -> Evaluation:
    """Score the nearest neighbour in codes on ``episodes`` episodes of each shape; write ``evaluation.json``.

    The episodes are those of a one-shot run of the same shape. Raises ``CommandError`` where the run has no checkpoint.
    """
    experiment, device = AutoencoderExperiment(config), usable_device(config)
    model, step = load_model(run, experiment, device)
    scores = {
        classes: score(model, config, experiment.split.test, classes, EVALUATION_SEED, episodes, device)
        for classes in SHAPES
    }
    record = {"step": step, "training_drawings": step * config.batch_size, "model": config.model}
    by_classes = {str(classes): found.to_dict() for classes, found in scores.items()}
    for found in by_classes.values():
        del found["loss"]  # neighbours answer without probabilities
    write_evaluation(run, record | {"unseen_by_classes": by_classes})
    return Evaluation(run, config, step, scores)


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes by instance: a table for each number of classes, with a column for each run."""
    lines = [headline(next(iter(results[0].by_classes.values()))), *training_lines(results, "drawings")]
    for classes in SHAPES:
        columns = [instances()]
        for name, result in zip(run_names(results), results, strict=True):
            columns.append([name, *accuracies(result.by_classes[classes])])
        row = paper.rows(episodes_of(results[0].config, classes)).get(PAPER_ROW)
        if row:
            columns.append([f"paper's {PAPER_ROW}", *(f"{value:.1f}%" for value in row)])
        lines += ["", f"{classes} classes, nearest neighbour in the codes, strings as labels", *side_by_side(columns)]
    return "\n".join(lines)
