"""The pictures of a one-shot run: its learning curve, its accuracy by presentation, and its memory in one episode."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.experiment import OneShotExperiment, chance, test_sampler
from mannkern.experiments.one_shot.report import Evaluation, ordinal
from mannkern.experiments.one_shot.scores import Scores
from mannkern.tasks.characters.labels import answered_right
from mannkern.training.drawing import (
    INK,
    RUN_COLOURS,
    colormap,
    corner_note,
    name_training_axis,
    panels_of,
    rgb,
    run_colour,
    save,
    side_legend,
)
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.metrics import read_metrics
from mannkern.training.runtime import eval_mode, load_model, usable_device
from mannkern.training.tables import run_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLOURS = (
    "#2458a6",
    "#d9622b",
    "#2a8f6d",
    "#a63d7f",
    "#b08a1e",
    "#4aa3c7",
    "#7a5c3e",
    "#6b6bd0",
    "#8bb13a",
    "#c23b3b",
)


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw the learning curve and the memory of every run, and the accuracy of all runs into the first run's folder.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = []
    for name, result in zip(run_names(results), results, strict=True):
        paths.append(save(learning_curve(result, name), result.run, "learning_curve.png"))
        if result.config.core.has_memory:
            paths.append(save(memory(result, name), result.run, "memory.png"))
        if result.by_place:
            paths.append(save(accuracy_by_place(result, name), result.run, "accuracy_by_place.png"))
        if result.by_classes:
            paths.append(save(accuracy_by_classes(result, name), result.run, "accuracy_by_classes.png"))
    if results[0].config.shots is None:
        paths.insert(1, save(accuracy_by_instance(results), results[0].run, "accuracy_by_instance.png"))
    return paths


def learning_curve(result: Evaluation, name: str) -> Figure:
    """Loss and accuracy by presentation on unseen classes, against episodes of training."""
    lines = read_metrics(result.run)
    training = [line for line in lines if line["kind"] == "train"]
    validation = [line for line in lines if line["kind"] == "validation"]
    figure, (top, bottom) = panels_of(f"{name}: learning curve", 2, (8.5, 7.2), sharex=True)
    episodes = [line["episodes"] for line in training]
    top.plot(
        episodes, [line["loss"] for line in training], color=RUN_COLOURS[0], alpha=0.35, lw=1, label="training batches"
    )
    episodes_seen = [line["episodes"] for line in validation]
    top.plot(episodes_seen, [line["loss"] for line in validation], color=RUN_COLOURS[0], lw=1.8, label="unseen classes")
    top.axhline(-math.log(chance(result.config)), color=INK, lw=1, ls=":", label="chance")
    top.set_ylabel("cross entropy")
    top.set_ylim(bottom=0)
    side_legend(top)
    shades = colormap("viridis")
    if result.config.shots is not None:
        accuracy = [100 * line["accuracy"] for line in validation]
        bottom.plot(episodes_seen, accuracy, color=RUN_COLOURS[0], lw=1.8, label="queries")
    for place, instance in enumerate(INSTANCES if result.config.shots is None else ()):
        points = [line["accuracy_by_instance"][str(instance)] for line in validation]
        accuracy = [math.nan if point is None else 100 * point for point in points]
        if points and all(map(math.isnan, accuracy)):
            continue
        colour = shades(0.92 * place / (len(INSTANCES) - 1))
        bottom.plot(episodes_seen, accuracy, color=colour, lw=1.8, label=ordinal(instance))
    _chance(bottom, result.config)
    bottom.set_ylabel("accuracy on unseen classes (%)")
    bottom.set_ylim(0, 101)
    name_training_axis(bottom, "episodes")
    side_legend(bottom, title="presentation\nof a class" if result.config.shots is None else None)
    return figure


def accuracy_by_instance(results: Sequence[Evaluation]) -> Figure:
    """Accuracy against the presentation of a class, with a curve for each run; bands are 95% intervals."""
    figure, (axes,) = panels_of("Accuracy by presentation", 1, (9.5, 5.0))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        colour = run_colour(place)
        for scores, style, classes in ((result.unseen, "-", "unseen classes"), (result.seen, "--", "training classes")):
            _curve(axes, scores, colour, style, f"{name}, {classes}")
    _chance(axes, results[0].config)
    _presentations(axes, results[0].unseen)
    return figure


def accuracy_of_rows(config: OneShotConfig, scores: Mapping[str, Scores], learned: Collection[str]) -> Figure:
    """Accuracy against the presentation of a class, a line for each model, dark and broken if not in ``learned``."""
    figure, (axes,) = panels_of("Accuracy by presentation, unseen classes", 1, (9.5, 5.0))
    colours, others = cycle(RUN_COLOURS), cycle(("--", ":"))
    for name, row in scores.items():
        if name in learned:
            _curve(axes, row, next(colours), "-", name)
        else:
            _curve(axes, row, INK, next(others), name)
    _chance(axes, config)
    _presentations(axes, next(iter(scores.values())))
    return figure


def accuracy_by_classes(result: Evaluation, name: str) -> Figure:
    """Accuracy on unseen classes against the number of classes in an episode, a line for each instance."""
    figure, (axes,) = panels_of(f"{name}: accuracy by number of classes", 1, (9.5, 5.0))
    shades = colormap("viridis")
    classes = list(result.by_classes)
    for place, instance in enumerate(INSTANCES):
        mean = [100 * scores.by_instance[instance - 1] for scores in result.by_classes.values()]
        half = [100 * scores.interval[instance - 1] for scores in result.by_classes.values()]
        colour = shades(0.92 * place / (len(INSTANCES) - 1))
        axes.errorbar(classes, mean, half, color=colour, lw=1.8, marker="o", ms=5, capsize=3, label=ordinal(instance))
    last = result.config.at_step(max(0, result.step - 1)).classes
    axes.axvspan(result.config.classes, max(last, result.config.classes + 0.2), color=RUN_COLOURS[0], alpha=0.12, lw=0)
    axes.set_xticks(classes)
    axes.set_xlabel("classes in an episode   (shaded: those of training)")
    axes.set_ylabel("accuracy on unseen classes (%)")
    axes.set_ylim(-1, 101)
    side_legend(axes, title="presentation\nof a class")
    corner_note(axes, "bars: 95% intervals over episodes")
    return figure


def accuracy_by_place(result: Evaluation, name: str) -> Figure:
    """Accuracy on unseen classes against an episode's place in a stream whose memory is not wiped."""
    figure, (axes,) = panels_of(f"{name}: a memory that is not wiped between episodes", 1, (9.5, 5.0))
    accuracy = [100 * mean for mean in result.by_place]
    axes.plot(range(1, len(accuracy) + 1), accuracy, color=RUN_COLOURS[0], lw=1.8, marker="o", ms=5, label="not wiped")
    if result.wiped is not None:
        level = 100 * result.wiped.accuracy
        axes.axhline(
            level, color=RUN_COLOURS[1], lw=1.8, ls="--", label="wiped before each,\nmean of the same episodes"
        )
    _chance(axes, result.config)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("episode since the memory was wiped")
    axes.set_ylabel("accuracy on unseen classes (%)")
    axes.set_ylim(0, 101)
    side_legend(axes)
    return figure


def memory(result: Evaluation, name: str) -> Figure:
    """One episode of unseen classes: write and read weights over the slots; the colour is the class of the step."""
    experiment = OneShotExperiment(result.config)
    device = usable_device(result.config)
    model, _ = load_model(result.run, experiment, device)
    episode = test_sampler(result.config, experiment.split.test, EVALUATION_SEED).sample(1, 0)
    with eval_mode(model, device):
        logits, read, write = model.trace(episode.inputs.to(device))  # type: ignore[operator]
    targets = episode.targets[:, 0].tolist()
    right = answered_right(logits.cpu(), episode.symbols)[:, 0].tolist()
    if result.config.shots is not None:
        right[: -result.config.classes] = [True] * (len(right) - result.config.classes)  # no answer was due
    title = f"{name}: one episode of unseen classes"
    figure, panels = panels_of(title, 3, (10.5, 8.4), sharex=True, ratios=(10, 10, 1.1))
    # a softmax of cosines never gets far from even weights, so white stands for them and colour for the rest
    evenly = 1 / read.shape[-1] if result.config.core.even_reads else 0.0
    for axes, weights, white, what in ((panels[0], write, 0.0, "write"), (panels[1], read, evenly, "read")):
        _paint(axes, weights[:, 0].mean(1).cpu(), targets, white)
        axes.set_ylabel("slot")
        axes.set_title(f"{what} weights, mean of {weights.shape[2]} heads", loc="left", fontsize=10, color=INK)
    strip = panels[2]
    for step, (label, correct) in enumerate(zip(targets, right, strict=True)):
        strip.axvspan(step - 0.5, step + 0.5, color=_class_colour(label), lw=0)
        strip.text(step, 0.5, str(label), ha="center", va="center", fontsize=7, color="white", fontweight="bold")
        strip.text(step, -0.15, "" if correct else "x", ha="center", va="top", fontsize=9, color=INK)
    strip.set_ylim(0, 1)
    strip.set_yticks([])
    strip.set_ylabel("class", rotation=0, ha="right", va="center")
    strip.tick_params(axis="x", pad=12)
    strip.set_xlabel("time step   (x: answered wrong)")
    return figure


def _paint(axes: Axes, weights: torch.Tensor, targets: list[int], white: float) -> None:
    """Paint weights (T, N) in the colour of the step's class, from white at ``white`` to full colour at the largest."""
    largest = float(weights.max())
    hue = torch.tensor([rgb(_class_colour(label)) for label in targets])  # (T, 3)
    depth = ((weights - white) / max(largest - white, 1e-12)).clamp(min=0).T.unsqueeze(-1)  # (N, T, 1)
    axes.imshow((1 - depth * (1 - hue)).numpy(), aspect="auto", origin="lower", interpolation="nearest")
    corner_note(axes, f"white: {white:.2g}   full colour: {largest:.2g}")
    axes.grid(False)


def _curve(axes: Axes, scores: Scores, colour: str, style: str, label: str) -> None:
    """Draw accuracy against the presentation of a class, with its interval as a band."""
    x = [k for k, mean in enumerate(scores.by_instance, 1) if not math.isnan(mean)]
    mean = [100 * scores.by_instance[k - 1] for k in x]
    half = [100 * scores.interval[k - 1] for k in x]
    low = [max(0.0, m - h) for m, h in zip(mean, half, strict=True)]
    high = [min(100.0, m + h) for m, h in zip(mean, half, strict=True)]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    filled = colour if style == "-" else "white"
    axes.plot(x, mean, style, color=colour, lw=1.8, marker="o", ms=5, mfc=filled, label=label)


def _presentations(axes: Axes, scores: Scores) -> None:
    """Label the axes of a picture of accuracy against the presentation of a class."""
    axes.set_xticks(range(1, len(scores.by_instance) + 1))
    axes.set_xlabel("presentation of a class within its episode")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 101)
    side_legend(axes)
    text = f"bands: 95% intervals over {scores.episodes:,} episodes"
    axes.text(0.0, 1.02, text, transform=axes.transAxes, color=INK, fontsize=9)


def _chance(axes: Axes, config: OneShotConfig) -> None:
    """Draw a line at one class of C. For strings, which nobody guesses, it is one of the episode's strings."""
    axes.axhline(100 / config.classes, color=INK, lw=1, ls=":")
    at = axes.get_yaxis_transform()  # below the line, where models seldom are
    name = "chance" if config.labels == "one-hot" else f"one of the episode's {config.classes} strings"
    axes.text(0.995, 100 / config.classes - 1, name, transform=at, ha="right", va="top", color=INK, fontsize=9)


def _class_colour(label: int) -> str:
    return CLASS_COLOURS[label % len(CLASS_COLOURS)]
