"""Learning curves: a number of ``metrics.jsonl`` against examples of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curve(
    axes: Axes, run: Path, quantity: str, unit: str, colour: str, labels: tuple[str, str], scale: float = 1.0
) -> None:
    """``scale * quantity`` of a run's training batches, faint, and of its validations, against ``unit`` of training.

    unit: the experiment's, "episodes" or "sequences"; labels: of the two lines in the legend.
    """
    lines = read_metrics(run)
    for kind, label, alpha, width, marker in (
        ("train", labels[0], 0.35, 1.0, ""),
        ("validation", labels[1], 1.0, 1.8, "."),
    ):
        chosen = [line for line in lines if line["kind"] == kind]
        y = [scale * line[quantity] for line in chosen]
        axes.plot([line[unit] for line in chosen], y, color=colour, label=label, alpha=alpha, lw=width, marker=marker)


def finish_axis(axes: Axes, unit: str) -> None:
    """Name the horizontal axis and put the legend to the right."""
    axes.set_xlabel(f"{unit} of training")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
