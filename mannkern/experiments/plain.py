"""A kind of experiment with a plain report: a table of what is measured, and the learning curve of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from mannkern.experiments.kind import Kind
from mannkern.training.config import RunConfig
from mannkern.training.drawing import draw_curve, name_training_axis, panels_of, run_colour, save, side_legend
from mannkern.training.experiment import Experiment
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation


class MeasuredExperiment(Experiment, Protocol):
    """An experiment that also measures what a plain report shows."""

    def measure(self, model: nn.Module, device: torch.device, number: int) -> dict[str, float]:
        """Names and numbers on ``number`` fresh examples. Torch's generator stays as it was."""


class PlainEvaluation(NamedTuple):
    """What was measured of a run, and the experiment's name for an example."""

    run: Path
    config: RunConfig
    step: int
    measured: dict[str, float]
    unit: str


def plain_kind(
    tasks: Mapping[str, type[RunConfig]],
    open: Callable[[Any], MeasuredExperiment],
    *,
    paper: str = "a task of your own",
    build: Callable[[Any], nn.Module] | None = None,
    predict: Callable[..., Any] | None = None,
) -> Kind:
    """A kind for :func:`mannkern.experiments.registry.register_task`, with a plain report.

    Arguments as ``Kind`` has them. Validations of the experiment must have a ``loss``, which the learning curve shows.
    """

    def evaluate(run: Path, config: RunConfig, number: int) -> PlainEvaluation:
        experiment, device = open(config), usable_device(config)
        model, step = load_model(run, experiment, device)
        measured = experiment.measure(model, device, number)
        write_evaluation(run, {"step": step, "model": config.model, **measured})
        return PlainEvaluation(run, config, step, measured, experiment.unit)

    return Kind(tasks, paper, "what the experiment says", open, evaluate, table, draw_all, build=build, predict=predict)


def table(results: Sequence[PlainEvaluation]) -> str:
    """What was measured, a column for each run."""
    names = list(results[0].measured)
    columns = [["", *names]]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, *(f"{result.measured[quantity]:.4g}" for quantity in names)])
    return "\n".join([*training_lines(results, results[0].unit), "", *side_by_side(columns)])


def draw_all(results: Sequence[PlainEvaluation]) -> list[Path]:
    """Draw the loss of all runs against their training into the first run's folder."""
    unit = results[0].unit
    figure, (axes,) = panels_of(f"{results[0].config.task}: learning curve", 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        draw_curve(axes, result.run, "loss", unit, run_colour(place), (f"{name}, training", f"{name}, validation"))
    axes.set_ylabel("loss")
    name_training_axis(axes, unit)
    side_legend(axes)
    return [save(figure, results[0].run, "learning_curve.png")]
