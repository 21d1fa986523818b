"""The pictures of docs/results.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.science.records import Record, finished, over_seeds
from mannkern.experiments.one_shot import paper
from mannkern.files import write_atomically
from mannkern.training.drawing import INK, name_training_axis, panels_of, run_colour, side_legend

PANELS = {"2": "2nd presentation", "10": "10th presentation"}
PLACE = {"2": 1, "10": 5}  # in a row of Table 1


def draw_curves(rows: dict[str, list[Record]], path: Path) -> None:
    """Accuracy at the 2nd and the 10th presentation against episodes of training, a line for each seed."""
    figure, panels = panels_of("One-shot Omniglot, unseen classes", 2, (9, 7.5), sharex=True)
    trained = {row: records for row, records in rows.items() if any(record["curve"] for record in records)}
    for axes, (instance, title) in zip(panels, PANELS.items(), strict=True):
        for place, (row, records) in enumerate(trained.items()):
            for record in records:
                x = [line["episodes"] for line in record["curve"]]
                y = [100 * line["accuracy_by_instance"][instance] for line in record["curve"]]
                label = row if record is records[0] else None
                axes.plot(x, y, color=run_colour(place), lw=1.2, alpha=0.8, label=label)
        level = paper.ROWS["one-hot", 5]["MANN"][PLACE[instance]]
        axes.axhline(level, color=INK, lw=1, ls="--", label="the paper's MANN")
        axes.set_ylabel(f"{title} (%)")
        side_legend(axes)
    name_training_axis(panels[-1], "episodes")
    _save(figure, path)


def draw_factors(rows: dict[str, list[Record]], path: Path) -> None:
    """Accuracy over all steps with one setting changed: a point for each seed, a bar for their mean."""
    done = {row: finished(records) for row, records in rows.items() if finished(records)}
    means = {row: over_seeds([_accuracy(record) for record in records])[0] for row, records in done.items()}
    order = sorted(means, key=means.__getitem__)
    figure, (axes,) = panels_of("The paper's literal model, one setting changed", 1, (9, 1.5 + 0.32 * len(order)))
    base = next(iter(rows))
    for place, row in enumerate(order):
        axes.barh(place, means[row], color=run_colour(1 if row == base else 0), alpha=0.35, height=0.7)
        seeds = [_accuracy(record) for record in done[row]]
        axes.plot(seeds, [place] * len(seeds), ".", color=INK)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("accuracy over all steps, unseen classes, 160,000 episodes of training (%)")
    _save(figure, path)


def _accuracy(record: Record) -> float:
    return 100 * float(record["evaluation"]["unseen"]["accuracy"])


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
