"""The report on Gaussian processes: log-likelihood by points seen, beside that of the exact posterior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.experiments.gaussian_processes.experiment import FunctionScores, GaussianProcessExperiment, measure
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation

POINTS = (0, 1, 2, 5, 10, 20, 50, 100)


class Evaluation(NamedTuple):
    """A run's scores on fresh functions."""

    run: Path
    config: GaussianProcessConfig
    step: int
    scores: FunctionScores


def evaluate(run: Path, config: GaussianProcessConfig, functions: int = 1000) -> Evaluation:
    """Score a run on ``functions`` fresh functions; write ``evaluation.json`` into it.

    All runs on one process see the same functions. Raises ``CommandError`` where the run has no checkpoint.
    """
    device = usable_device(config)
    model, step = load_model(run, GaussianProcessExperiment(config), device)
    scores = measure(model, config.sampler(EVALUATION_SEED), functions, device)
    record = {
        "step": step,
        "training_functions": step * config.batch_size,
        "model": config.model,
        **{name: getattr(config, name) for name in ("dimensions", "length", "length_scale", "noise")},
        **scores.to_dict(),
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, scores)


def table(results: Sequence[Evaluation]) -> str:
    """Log-likelihood of the value after so many points: a column for each run, and one for the exact posterior."""
    config, first = results[0].config, results[0].scores
    shown = [t for t in POINTS if t < config.length]
    columns = [["points", *map(str, shown), "mean"]]
    for name, result in zip(run_names(results), results, strict=True):
        scores = result.scores
        cells = [f"{scores.log_likelihood[t]:.2f} ± {scores.interval[t]:.2f}" for t in shown]
        columns.append([name, *cells, f"{scores.mean():.3f}"])
    columns.append(["exact posterior", *(f"{first.exact[t]:.2f}" for t in shown), f"{first.exact_mean():.3f}"])
    head = (
        f"functions of {config.dimensions} variable{'s' if config.dimensions > 1 else ''} from a Gaussian process, "
        f"log-likelihood (nats) of the value after so many points: {first.functions:,} functions, "
        "± half a 95% interval"
    )
    return "\n".join([head, *training_lines(results, "functions"), "", *side_by_side(columns)])


def verdict(result: Evaluation) -> str:
    """A sentence that says how much of what the points tell the model uses.

    Nothing is the exact log-likelihood before any point, everything that of the exact posterior.
    """
    blind, best, reached = result.scores.exact[0], result.scores.exact_mean(), result.scores.mean()
    share = (reached - blind) / (best - blind) if best > blind else 0.0
    if share > 0.5:
        found = "The model learned"
    elif share > 0.05:
        found = "The model has begun to learn"
    else:
        found = "The model has not learned"
    return f"{found}: of the nats that the points are worth to the exact posterior, it has {max(0.0, share):.0%}."
