"""The pictures of a few-shot run: its learning curve, and its predictions in one episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mannkern.experiments.few_shot.experiment import FewShotExperiment, test_sampler
from mannkern.experiments.few_shot.report import Evaluation
from mannkern.training.drawing import (
    INK,
    colormap,
    draw_curve,
    draw_frame,
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_QUERIES = 10  # in the picture of an episode


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw an episode and the learning curve of every run; the first run's folder gets the curves of all.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = [save(learning_curve(results), results[0].run, "learning_curve.png")]
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        if place:
            paths.append(save(learning_curve([result]), result.run, "learning_curve.png"))
        paths.append(save(episode(result, name), result.run, "episode.png"))
    return paths


def learning_curve(results: Sequence[Evaluation]) -> Figure:
    """Loss and accuracy of all runs on training batches and on unseen classes, against episodes of training."""
    config = results[0].config
    title = f"{config.task}, {config.classes}-way {config.shots}-shot: learning curve"
    figure, (top, bottom) = panels_of(title, 2, (9.5, 7.2), sharex=True)
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        colour = run_colour(place)
        labels = (f"{name}, training batches", f"{name}, unseen classes")
        draw_curve(top, result.run, "loss", "episodes", colour, labels)
        draw_curve(bottom, result.run, "accuracy", "episodes", colour, labels, scale=100)
    top.axhline(math.log(config.classes), color=INK, lw=1, ls=":", label="chance")
    top.set_ylabel("cross entropy")
    top.set_ylim(bottom=0)
    bottom.axhline(100 / config.classes, color=INK, lw=1, ls=":", label="chance")
    bottom.set_ylabel("accuracy (%)")
    bottom.set_ylim(0, 101)
    name_training_axis(bottom, "episodes")
    side_legend(bottom)
    return figure


def episode(result: Evaluation, name: str) -> Figure:
    """One episode of unseen classes: its support set above, its queries at the left, the probabilities in the middle.

    A frame marks the right class of each query; an x marks a query whose largest probability is elsewhere.
    """
    config = result.config
    experiment = FewShotExperiment(config)
    device = usable_device(config)
    model, _ = load_model(result.run, experiment, device)
    batch = test_sampler(config, experiment.split.test, EVALUATION_SEED).sample(1, 0)
    with eval_mode(model, device):
        logits = model(*(tensor.to(device) for tensor in batch[:3]))[0].cpu()
    shown = min(MOST_QUERIES, len(logits))
    percent, targets = 100 * logits[:shown].softmax(-1), batch.targets[0, :shown]
    C, K = config.classes, config.shots
    by_class = batch.support[0][batch.labels[0].argsort(stable=True)].unflatten(0, (C, K))
    side = 0.62 if C <= 10 else 0.5  # inches of a drawing
    size = (side * (C + 1) + 1.6, side * (shown + K) + 1.0)
    figure = new_figure(f"{name}: one episode of unseen classes", size)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, C), height_ratios=(K, shown))
    above, left, middle = (figure.add_subplot(grid[place]) for place in ((0, 1), (1, 0), (1, 1)))
    _show_drawings(above, by_class.transpose(0, 1))
    _show_drawings(left, batch.queries[0, :shown].unsqueeze(1))
    image = middle.imshow(percent.numpy(), cmap=colormap("Blues"), vmin=0, vmax=100, aspect="auto")
    for row, (target, chances) in enumerate(zip(targets.tolist(), percent, strict=True)):
        draw_frame(middle, row, target)
        if int(chances.argmax()) != target:
            middle.text(C - 0.4, row, "x", ha="left", va="center", color=INK, fontsize=10)
        for column, chance in enumerate(chances.tolist() if C <= 10 else []):
            colour = "white" if chance > 50 else INK
            middle.text(column, row, f"{chance:.0f}", ha="center", va="center", fontsize=9, color=colour)
    middle.set_xticks([])
    middle.set_yticks([])
    above.set_title(f"support set, {C} classes", loc="left", fontsize=10, color=INK)
    left.set_xlabel("queries", color=INK, fontsize=9)
    middle.set_xlabel("probability of each class (%)\nframed: right class   x: answered wrong", color=INK, fontsize=9)
    if C > 10:
        figure.colorbar(image, ax=middle, shrink=0.6)
    return figure


def _show_drawings(axes: Axes, drawings: Tensor) -> None:
    """Show drawings (rows, columns, height, width), dark ink on white, with white lines between them.

    Images in colour, (rows, columns, 3, height, width), are shown as they are.
    """
    coloured = drawings.dim() == 5
    rows, columns, height, width = *drawings.shape[:2], *drawings.shape[-2:]
    sheet = torch.nn.functional.pad(drawings, (1, 1, 1, 1), value=float(coloured))
    sheet = sheet.view(rows, columns, -1, height + 2, width + 2).permute(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * (height + 2), columns * (width + 2), -1)
    shown = (sheet if coloured else sheet[..., 0]).numpy()
    axes.imshow(shown, cmap=colormap("Greys"), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
