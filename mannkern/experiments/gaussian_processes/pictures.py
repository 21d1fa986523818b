"""The pictures of a run on Gaussian processes: its learning curve, its log-likelihood, and functions it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mannkern.experiments.gaussian_processes.experiment import GaussianProcessExperiment, predicted
from mannkern.experiments.gaussian_processes.report import Evaluation
from mannkern.tasks import GaussianProcessSampler, seeds
from mannkern.tasks.gaussian_processes import INPUTS, episodes
from mannkern.training.drawing import (
    INK,
    RUN_COLOURS,
    draw_curve,
    name_training_axis,
    new_figure,
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

SHOWN_POINTS = (5, 10, 20, 50)  # after which a function of one variable is drawn
ACROSS = 121  # queries of a curve
SIDE = 21  # queries along a side of a map


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw functions with their predictions for every run; the first run's folder gets the curves of all.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = [
        save(learning_curve(results), results[0].run, "learning_curve.png"),
        save(likelihood(results), results[0].run, "log_likelihood.png"),
    ]
    for name, result in zip(run_names(results), results, strict=True):
        draw = curves if result.config.dimensions == 1 else maps
        paths.append(save(draw(result, name), result.run, "functions.png"))
    return paths


def learning_curve(results: Sequence[Evaluation]) -> Figure:
    """Log-likelihood of all runs on training batches and fresh functions, against functions of training."""
    figure, (axes,) = panels_of(f"{_title(results[0])}: learning curve", 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        labels = (f"{name}, training batches", f"{name}, fresh functions")
        draw_curve(axes, result.run, "log_likelihood", "functions", run_colour(place), labels)
    axes.axhline(results[0].scores.exact_mean(), color=INK, lw=1, ls="--", label="exact posterior")
    axes.set_ylabel("log-likelihood of a value (nats)")
    name_training_axis(axes, "functions")
    side_legend(axes)
    return figure


def likelihood(results: Sequence[Evaluation]) -> Figure:
    """Log-likelihood of a value against the number of points seen before it."""
    figure, (axes,) = panels_of(f"{_title(results[0])}: log-likelihood", 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        mean, half = torch.tensor(result.scores.log_likelihood), torch.tensor(result.scores.interval)
        x = range(len(mean))
        axes.fill_between(x, (mean - half).tolist(), (mean + half).tolist(), color=run_colour(place), alpha=0.18, lw=0)
        axes.plot(x, mean.tolist(), color=run_colour(place), lw=1.8, label=name)
    axes.plot(range(len(results[0].scores.exact)), results[0].scores.exact, "--", color=INK, label="exact posterior")
    axes.set_xlabel("points seen")
    axes.set_ylabel("log-likelihood of the next value (nats)")
    side_legend(axes)
    return figure


def curves(result: Evaluation, name: str) -> Figure:
    """A fresh function of one variable after more and more points: what the model and the exact posterior predict."""
    sampler, model, device = _opened(result)
    grid = torch.linspace(*INPUTS, ACROSS, dtype=torch.float64).view(1, -1, 1)
    points, values, _ = _function(sampler, grid)
    shown = [t for t in SHOWN_POINTS if t <= result.config.length] or [result.config.length]
    figure, panels = panels_of(f"{name}: a fresh function", len(shown), (9.5, 2.1 * len(shown) + 1), sharex=True)
    x = grid[0, :, 0].tolist()
    for axes, number in zip(panels, shown, strict=True):
        before = points[:, :number], values[:, :number]
        for colour, label, (mean, deviation) in (
            (INK, "exact posterior", sampler.posterior(*before, grid)),
            (RUN_COLOURS[0], name, predict(model, *before, grid, device)),
        ):
            low, high = (mean - 2 * deviation)[0].tolist(), (mean + 2 * deviation)[0].tolist()
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(x, mean[0].tolist(), color=colour, lw=1.8, label=label)
        axes.plot(before[0][0, :, 0].tolist(), before[1][0].tolist(), "o", color=RUN_COLOURS[1], ms=4, label="points")
        axes.set_ylabel(f"after {number}")
    side_legend(panels[0], title="bands: two deviations")
    panels[-1].set_xlabel("x")
    return figure


def maps(result: Evaluation, name: str) -> Figure:
    """A fresh function of two variables, or a plane through one of three, beside two predictions of it from its points.

    The last panels show how far the model's mean and that of the exact posterior are from the function.
    """
    sampler, model, device = _opened(result)
    side = torch.linspace(*INPUTS, SIDE, dtype=torch.float64)
    plane = torch.cartesian_prod(side, side)
    grid = torch.cat((plane, plane.new_zeros(len(plane), sampler.dimensions - 2)), 1).unsqueeze(0)
    points, values, true = _function(sampler, grid)
    mean, deviation = predict(model, points, values, grid, device)
    exact, exact_deviation = sampler.posterior(points, values, grid)
    figure = new_figure(f"{name}: a fresh function after {result.config.length} points", (10.5, 6.4))
    where = "" if sampler.dimensions == 2 else ", at x3 = 0"
    panels = (
        (f"the function{where}", true, "viridis"), (f"{name}: mean", mean, "viridis"),
        ("exact posterior: mean", exact, "viridis"), ("", None, ""),
        (f"{name}: deviation", deviation, "magma"), ("exact posterior: deviation", exact_deviation, "magma"),
    )  # fmt: skip
    limits = {"viridis": (float(true.min()), float(true.max())), "magma": (0.0, 1.0)}
    for axes, (title, x, colours) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        if x is None:
            axes.axis("off")
            continue
        low, high = limits[colours]
        extent = (*INPUTS, *INPUTS)
        image = axes.imshow(
            x.view(SIDE, SIDE).T.numpy(), origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high
        )
        if sampler.dimensions == 2:
            axes.plot(*points[0].T.tolist(), ".", color="white", ms=3)
        axes.set_title(title, fontsize=10, color=INK)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def predict(
    model: nn.Module, points: Tensor, values: Tensor, queries: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean and deviation (1, Q) that ``model`` predicts at queries (1, Q, n) after points (1, P, n) with values (1, P).

    Each query is the last point of an episode of its own.
    """
    Q = queries.shape[1]
    shown = torch.cat((points.expand(Q, -1, -1), queries.transpose(0, 1)), 1)
    known = torch.cat((values.expand(Q, -1), values.new_zeros(Q, 1)), 1)
    with eval_mode(model, device):
        mean, deviation = predicted(model(episodes(shown, known).inputs.to(device))[-1])
    return mean.cpu().double().unsqueeze(0), deviation.cpu().double().unsqueeze(0)


def _opened(result: Evaluation) -> tuple[GaussianProcessSampler, nn.Module, torch.device]:
    device = usable_device(result.config)
    model, _ = load_model(result.run, GaussianProcessExperiment(result.config), device)
    return result.config.sampler(EVALUATION_SEED), model, device


def _function(sampler: GaussianProcessSampler, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A fresh function: its points (1, T, n), its values there (1, T), and those at the grid (1, G)."""
    generator = seeds.generator(EVALUATION_SEED, 0)
    points = sampler.points(1, sampler.length, generator)
    _, values = sampler.draw(torch.cat((points, grid), 1), generator)
    return points, values[:, : sampler.length], values[:, sampler.length :]


def _title(result: Evaluation) -> str:
    number = result.config.dimensions
    return f"functions of {number} variable{'s' if number > 1 else ''}"
