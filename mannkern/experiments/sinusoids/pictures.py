"""The pictures of a run on sinusoids: its learning curve, and three sinusoids before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mannkern.experiments.sinusoids.experiment import SinusoidExperiment, test_sampler
from mannkern.experiments.sinusoids.report import Evaluation
from mannkern.tasks.sinusoids import INPUTS, sinusoid
from mannkern.training.drawing import (
    INK,
    RUN_COLOURS,
    draw_curve,
    name_training_axis,
    panels_of,
    run_colour,
    save,
    side_legend,
)
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import eval_mode, load_model, usable_device
from mannkern.training.tables import run_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 3


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw the sinusoids and the learning curve of every run; the first run's folder gets the curves of all.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = [save(learning_curve(results), results[0].run, "learning_curve.png")]
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        if place:
            paths.append(save(learning_curve([result]), result.run, "learning_curve.png"))
        paths.append(save(adaptation(result, name), result.run, "adaptation.png"))
    return paths


def learning_curve(results: Sequence[Evaluation]) -> Figure:
    """Error of all runs after adaptation, on training batches and fresh sinusoids, against sinusoids of training."""
    title = f"sinusoids from {results[0].config.shots} points: learning curve"
    figure, (axes,) = panels_of(title, 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        labels = (f"{name}, training batches", f"{name}, fresh sinusoids")
        draw_curve(axes, result.run, "loss", "sinusoids", run_colour(place), labels)
    axes.set_yscale("log")
    axes.set_ylabel("mean squared error after adaptation")
    name_training_axis(axes, "sinusoids")
    side_legend(axes)
    return figure


def adaptation(result: Evaluation, name: str) -> Figure:
    """Fresh sinusoids, their support points, and the network's answer after 0, 1 and all its steps of adaptation."""
    device = usable_device(result.config)
    model, _ = load_model(result.run, SinusoidExperiment(result.config), device)
    batch = test_sampler(result.config, EVALUATION_SEED).sample(SHOWN, 0)
    x = torch.linspace(*INPUTS, 201).view(1, -1, 1).expand(SHOWN, -1, -1)
    lines = {}
    with eval_mode(model, device):
        for steps in sorted({0, 1, result.config.inner_steps}):
            adapted = model.adapt(batch.support.to(device), batch.labels.to(device), steps=steps)  # type: ignore[operator]
            lines[steps] = adapted(x.to(device))[..., 0].cpu()
    true = sinusoid(x, batch.amplitudes, batch.phases)[..., 0]
    figure, panels = panels_of(f"{name}: {SHOWN} fresh sinusoids", SHOWN, (9.5, 8.4), sharex=True)
    for row, axes in enumerate(panels):
        across = x[row, :, 0].tolist()
        axes.plot(across, true[row].tolist(), color=INK, lw=5, alpha=0.2, label="the sinusoid")
        for place, (steps, y) in enumerate(lines.items()):
            last = place == len(lines) - 1
            label = f"after {steps} step{'' if steps == 1 else 's'}"
            colour = RUN_COLOURS[0] if last else RUN_COLOURS[1]
            style = "-" if last else (":", "--")[place % 2]
            axes.plot(across, y[row].tolist(), style, color=colour, lw=1.8 if last else 1.3, label=label)
        shown = batch.support[row, :, 0].tolist(), batch.labels[row, :, 0].tolist()
        axes.plot(*shown, "o", color=INK, ms=5, label="points shown")
        axes.set_ylabel("y")
    side_legend(panels[0])
    panels[-1].set_xlabel("x")
    return figure
