"""The pictures of a run on an algorithmic task: its learning curve, its cost by size, and one sequence in detail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment
from mannkern.experiments.algorithmic.report import Evaluation
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.sequences import (
    Sequences,
    SequenceTask,
    Size,
    answer_bits,
    bits_per_sequence,
    size_text,
    wrong_bits,
)
from mannkern.training.drawing import (
    INK,
    RUN_COLOURS,
    corner_note,
    draw_curve,
    name_training_axis,
    panels_of,
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


def draw_all(results: Sequence[Evaluation]) -> list[Path]:
    """Draw the learning curve and sequences of every run; the first run's folder also gets pictures of all runs.

    Returns the paths of the pictures, PNG files under ``RUN/pictures``.
    """
    paths = [save(learning_curve(results), results[0].run, "learning_curve.png")]
    if len(results[0].scores) > 1:
        paths.append(save(bits_by_size(results), results[0].run, "bits_by_size.png"))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        if place:
            paths.append(save(learning_curve([result]), result.run, "learning_curve.png"))
        task = result.config.make_task()
        for size in dict.fromkeys((task.largest, task.evaluation_sizes[-1])):
            label = "x".join(map(str, size))
            paths.append(save(sequence(result, name, size), result.run, f"sequence-{label}.png"))
    return paths


def learning_curve(results: Sequence[Evaluation]) -> Figure:
    """Bits per sequence of all runs, on training batches and at the largest size, against sequences of training."""
    task = results[0].config.make_task()
    figure, (axes,) = panels_of(f"{results[0].config.task}: learning curve", 1, (9.5, 5.0))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        colour = run_colour(place)
        labels = (f"{name}, training batches", f"{name}, {size_label(task, task.largest)}")
        draw_curve(axes, result.run, "bits_per_sequence", "sequences", colour, labels)
        if place == 0 and results[0].scores[0].optimal is not None:
            validations = (line for line in read_metrics(result.run) if line["kind"] == "validation")
            best = next((line["optimal_bits_per_sequence"] for line in validations), None)
            if best is not None:
                axes.axhline(best, color=INK, lw=1.2, ls="--", label="optimal, on the same sequences")
    guessing = next(score.answer_bits for score in results[0].scores if score.size == task.largest)
    axes.axhline(guessing, color=INK, lw=1, ls=":", label="guessing")
    if results[0].scores[0].optimal is None:
        axes.set_yscale("log")  # the cost goes towards 0
    axes.set_ylabel("bits per sequence")
    name_training_axis(axes, "sequences")
    side_legend(axes)
    return figure


def bits_by_size(results: Sequence[Evaluation]) -> Figure:
    """Bits per sequence of all runs against the size of a sequence; bars are 95% intervals."""
    task = results[0].config.make_task()
    figure, (axes,) = panels_of(f"{results[0].config.task}: sizes in training and beyond", 1, (9.5, 5.0))
    scores = results[0].scores
    single = len(task.largest) == 1
    x = [score.size[0] for score in scores] if single else list(range(len(scores)))
    for place, (name, result) in enumerate(zip(run_names(results), results, strict=True)):
        colour = run_colour(place)
        mean = [score.bits_per_sequence for score in result.scores]
        half = [score.interval for score in result.scores]
        line = "-" if single else "none"
        axes.errorbar(x, mean, half, color=colour, ls=line, lw=1.8, marker="o", ms=4, capsize=3, label=name)
    guessing = [score.answer_bits for score in scores]
    axes.plot(x, guessing, ls=":" if single else "none", marker="_", color=INK, lw=1, label="guessing")
    if single:
        axes.axvline(task.largest[0], color=INK, lw=1, ls="--", label="largest in training")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0)
    axes.set_xticks(x, [size_text(score.size) for score in scores])
    axes.set_xlabel(task.size_name)
    axes.set_ylabel("bits per sequence (linear up to 1)")
    side_legend(axes)
    corner_note(axes, f"bars: 95% intervals over {scores[0].sequences:,} sequences")
    return figure


def sequence(result: Evaluation, name: str, size: Size) -> Figure:
    """One sequence of ``size`` step by step: inputs, targets, outputs, errors, and weights over slots if any."""
    experiment = AlgorithmicExperiment(result.config)
    task = experiment.task
    device = usable_device(result.config)
    model, _ = load_model(result.run, experiment, device)
    shown = task.sample(1, seeds.generator(EVALUATION_SEED, 0), size)
    weights: list[tuple[str, Tensor]] = []
    with eval_mode(model, device):
        inputs = shown.inputs.to(device)
        if result.config.core.has_memory:
            logits, read, write = model.trace(inputs)  # type: ignore[operator]
            weights = [("write", write[:, 0].cpu()), ("read", read[:, 0].cpu())]
        else:
            logits = model(inputs)
    logits = logits.cpu()
    optimal = task.optimal(shown)
    answer = [max(task.output_size, 2)] * 2 if optimal is None else [6]
    ratios = [max(task.input_size, 2), max(task.output_size, 2), *answer, *(14 for _ in weights)]
    title = f"{name}: {result.config.task}, {size_label(task, size)}"
    height = 1.6 + 0.17 * sum(ratios)
    figure, panels = panels_of(title, len(ratios), (10.5, height), sharex=True, ratios=ratios)
    _bits(panels[0], shown.inputs[:, 0], "inputs")
    _bits(panels[1], _due(shown.targets[:, 0], shown), "targets")
    if optimal is not None:
        _predictions(panels[2], logits, optimal, shown)
    else:
        outputs = torch.sigmoid(logits[:, 0])
        _bits(panels[2], _due(outputs, shown), "outputs")
        _bits(panels[3], _due(-(outputs - shown.targets[:, 0]).abs(), shown), "errors")
    cost, wrong = float(bits_per_sequence(logits, shown)), int(wrong_bits(logits, shown))
    precise = f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
    corner_note(panels[2], f"{precise} bits, {wrong} of {answer_bits(shown)} wrong after rounding")
    if weights:
        first, count = _used_slots(torch.cat([heads.amax(1) for _, heads in weights]))
        for axes, (what, heads) in zip(panels[-2:], weights, strict=True):
            _weights(axes, what, heads, first, count)
    panels[-1].set_xlabel("time step")
    return figure


def size_label(task: SequenceTask, size: Size) -> str:
    """``length: 20``, or ``length x repeats: 10 x 10``."""
    return f"{task.size_name}: {size_text(size)}"


def _due(bits: Tensor, shown: Sequences) -> Tensor:
    """bits (T, O) with NaN where no answer is due."""
    return bits.masked_fill(~shown.mask[:, :1], float("nan"))


def _bits(axes: Axes, bits: Tensor, what: str) -> None:
    """Show bits (T, channels): 1 is blue, 0 white, -1 red, NaN grey."""
    axes.set_facecolor("#e6e8eb")
    axes.imshow(bits.T.numpy(), aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-1, vmax=1)
    axes.set_yticks([])
    axes.set_ylabel(what, rotation=0, ha="right", va="center")
    axes.grid(False)


def _predictions(axes: Axes, logits: Tensor, optimal: Tensor, shown: Sequences) -> None:
    """Draw the predicted and the optimal probability of a 1, and the bit that came."""
    steps = shown.mask[:, 0].nonzero()[:, 0]
    came = shown.targets[steps, 0, 0]
    axes.plot(steps, torch.sigmoid(optimal)[steps, 0, 0], color=INK, lw=1.2, label="optimal")
    axes.plot(steps, torch.sigmoid(logits)[steps, 0, 0], color=RUN_COLOURS[1], lw=1.2, label="output")
    axes.plot(steps, came, ".", color=RUN_COLOURS[0], ms=3, label="the bit")
    axes.set_ylim(-0.05, 1.05)
    axes.set_ylabel("P(1)", rotation=0, ha="right", va="center")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _weights(axes: Axes, what: str, heads: Tensor, first: int, count: int) -> None:
    """Show weights (T, H, N) of ``count`` slots from ``first`` on; slot 0 follows the last slot."""
    slots = (torch.arange(count) + first) % heads.shape[2]
    largest = float(heads.max())
    image = heads.amax(1)[:, slots].T
    axes.imshow(image.numpy(), aspect="auto", origin="lower", interpolation="nearest", cmap="Blues", vmin=0)
    ticks = range(0, count, max(1, count // 6))
    axes.set_yticks(ticks, [str(int(slots[i])) for i in ticks])
    axes.set_ylabel("slot")
    of = f", the largest of {heads.shape[1]} heads" if heads.shape[1] > 1 else ""
    axes.set_title(f"{what} weights{of}", loc="left", fontsize=10, color=INK)
    corner_note(axes, f"full colour: {largest:.2g}")
    axes.grid(False)


def _used_slots(weights: Tensor) -> tuple[int, int]:
    """weights (steps, N) -> first slot and length of the shortest arc with all weights above a tenth of the largest."""
    N = weights.shape[1]
    used = (weights.amax(0) > 0.1 * weights.max()).nonzero()[:, 0]
    gaps = torch.cat((used[1:], used[:1] + N)) - used
    widest = int(gaps.argmax())
    first = int(used[(widest + 1) % len(used)])
    return first, N - int(gaps[widest]) + 1
