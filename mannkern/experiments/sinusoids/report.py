"""The report on sinusoids: error on fresh ones by steps of adaptation, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.experiments.sinusoids.experiment import SinusoidExperiment, SinusoidScores, measure, test_sampler
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation

STEPS = (0, 1, 5, 10)


class Evaluation(NamedTuple):
    """A run's scores, one for each number of steps in ``STEPS``."""

    run: Path
    config: SinusoidConfig
    step: int
    scores: list[SinusoidScores]


def evaluate(run: Path, config: SinusoidConfig, tasks: int = 1000) -> Evaluation:
    """Score a run on ``tasks`` fresh sinusoids; write ``evaluation.json`` into it.

    All runs with the same number of shots see the same sinusoids.
    Raises ``CommandError`` where the run has no checkpoint.
    """
    experiment = SinusoidExperiment(config)
    device = usable_device(config)
    model, step = load_model(run, experiment, device)
    sampler = test_sampler(config, EVALUATION_SEED)
    scores = [measure(model, sampler, steps, tasks, device) for steps in STEPS]
    record = {
        "step": step,
        "training_sinusoids": step * config.batch_size,
        "model": config.model,
        "shots": config.shots,
        "inner_steps_of_training": config.inner_steps,
        "first_order": config.first_order,
        "by_steps": [score.to_dict() for score in scores],
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, scores)


def table(results: Sequence[Evaluation]) -> str:
    """Mean squared error by steps of adaptation, a column for each run."""
    columns = [["steps", *map(str, STEPS)]]
    for name, result in zip(run_names(results), results, strict=True):
        finite = [math.isfinite(s.error) for s in result.scores]
        cells = [f"{s.error:.4f} ± {s.interval:.4f}" for s in result.scores]
        columns.append([name, *(cell if fine else "diverges" for cell, fine in zip(cells, finite, strict=True))])
    head = (
        f"sinusoids from {results[0].config.shots} points, mean squared error after steps of adaptation: "
        f"{results[0].scores[0].tasks:,} sinusoids, ± half a 95% interval"
    )
    orders = []
    for name, result in zip(run_names(results), results, strict=True):
        order = "first" if result.config.first_order else "second"
        orders.append(f"{name}: {result.config.inner_steps} steps of adaptation in training, {order} order")
    return "\n".join([head, *training_lines(results, "sinusoids"), *orders, "", *side_by_side(columns)])
