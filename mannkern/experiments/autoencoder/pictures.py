"""The pictures of an autoencoder: its learning curve, and drawings beside their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mannkern.experiments.autoencoder.experiment import AutoencoderExperiment
from mannkern.experiments.autoencoder.report import Evaluation
from mannkern.training.drawing import (
    draw_curve,
    name_training_axis,
    new_figure,
    panels_of,
    run_colour,
    save,
    side_legend,
)
from mannkern.training.runtime import eval_mode, load_model, usable_device
from mannkern.training.tables import run_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw the reconstructions of every run, and the learning curves of all into the first run's folder.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = [save(learning_curve(results), results[0].run, "learning_curve.png")]
    for name, result in zip(run_names(results), results, strict=True):
        paths.append(save(reconstructions(result, name), result.run, "reconstructions.png"))
    return paths


def learning_curve(results: Sequence[Evaluation]) -> Figure:
    """The loss of all runs, on training batches and on drawings of unseen classes."""
    figure, (axes,) = panels_of("Autoencoder of drawings: learning curve", 1, (9.5, 4.6))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        labels = (f"{name}, training batches", f"{name}, unseen classes")
        draw_curve(axes, result.run, "loss", "drawings", run_colour(place), labels)
    axes.set_ylabel("binary cross entropy of a pixel")
    name_training_axis(axes, "drawings")
    side_legend(axes)
    return figure


def reconstructions(result: Evaluation, name: str) -> Figure:
    """Drawings of unseen classes above, what the decoder makes of their codes below."""
    device = usable_device(result.config)
    experiment = AutoencoderExperiment(result.config)
    model, _ = load_model(result.run, experiment, device)
    drawings = experiment.unseen[:SHOWN]
    with eval_mode(model, device):
        again = torch.sigmoid(model(drawings.to(device))).cpu()
    side = experiment.split.test.shape[-1]
    figure = new_figure(f"{name}: drawings of unseen classes, and from their codes", (9.5, 2.2))
    for row, images in zip(figure.subplots(2, SHOWN), (drawings, again), strict=True):
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image.view(side, side).numpy(), cmap="gray_r", vmin=0, vmax=1)
            axes.axis("off")
    return figure
