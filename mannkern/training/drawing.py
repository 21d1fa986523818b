"""Figures in one style, learning curves, and the folder that pictures go to.

matplotlib is an extra, so only the functions that need it import it: ``--help`` and ``verify`` work without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mannkern.files import write_atomically
from mannkern.training.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = "pictures"
RUN_COLOURS = ("#2458a6", "#d9622b", "#2a8f6d", "#8a4fa3", "#b08a1e", "#5c6670")
INK = "#30343a"


def new_figure(title: str, size: tuple[float, float]) -> Figure:
    """An empty figure of ``size`` inches with a title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    return figure


def panels_of(
    title: str, rows: int, size: tuple[float, float], sharex: bool = False, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``size`` inches with a title, and its panels from top to bottom, with heights as ``ratios``."""
    figure = new_figure(title, size)
    panels = figure.subplots(rows, 1, sharex=sharex, squeeze=False, height_ratios=ratios)[:, 0].tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#9aa0a8")
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(color="#e6e8eb", lw=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def run_colour(place: int) -> str:
    """The colour of the run number ``place`` in every picture."""
    return RUN_COLOURS[place % len(RUN_COLOURS)]


def colormap(name: str) -> Any:
    """A colour map of matplotlib."""
    import matplotlib

    return matplotlib.colormaps[name]


def rgb(colour: str) -> tuple[float, float, float]:
    """``"#2458a6"`` as red, green and blue from 0 to 1."""
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def draw_frame(axes: Axes, row: int, column: int) -> None:
    """A frame around a cell of an image, in the colour of the second run."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, ec=RUN_COLOURS[1], lw=1.8))


def save(figure: Figure, run: Path, name: str) -> Path:
    """Write the figure as ``RUN/pictures/name``, PNG, and return that path."""
    path = run / PICTURES / name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return path


def corner_note(axes: Axes, note: str) -> None:
    """Small text above the upper right corner."""
    axes.text(1.0, 1.02, note, transform=axes.transAxes, ha="right", fontsize=9, color=INK)


def side_legend(axes: Axes, title: str | None = None) -> None:
    """The legend, to the right of the panel."""
    axes.legend(title=title, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_curve(
    axes: Axes, run: Path, quantity: str, unit: str, colour: str, labels: tuple[str, str], scale: float = 1.0
) -> None:
    """Draw ``scale * quantity`` against ``unit`` of training: a faint line for training, a full one for validation.

    The numbers are those of the run's ``metrics.jsonl``. unit: the experiment's, such as "episodes"; labels: of the
    two lines in the legend.
    """
    lines = read_metrics(run)
    for kind, label, alpha, width, marker in (
        ("train", labels[0], 0.35, 1.0, ""),
        ("validation", labels[1], 1.0, 1.8, "."),
    ):
        chosen = [line for line in lines if line["kind"] == kind]
        y = [scale * line[quantity] for line in chosen]
        axes.plot([line[unit] for line in chosen], y, color=colour, label=label, alpha=alpha, lw=width, marker=marker)


def name_training_axis(axes: Axes, unit: str) -> None:
    """Name the horizontal axis of a learning curve, and write its numbers with thousands separators."""
    axes.set_xlabel(f"{unit} of training")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
