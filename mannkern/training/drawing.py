"""Figures in one style, and where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import write_atomically

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
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    return figure


def panels_of(
    title: str, rows: int, size: tuple[float, float], sharex: bool = False, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``size`` inches with a title, and its panels from top to bottom, as high as ``ratios``."""
    figure = new_figure(title, size)
    panels = figure.subplots(rows, 1, sharex=sharex, squeeze=False, height_ratios=ratios)[:, 0].tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#9aa0a8")
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(color="#e6e8eb", lw=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def colormap(name: str) -> Any:
    """A colour map of matplotlib."""
    import matplotlib

    return matplotlib.colormaps[name]


def save(figure: Figure, run: Path, name: str) -> Path:
    """Write the figure as ``RUN/pictures/name``, PNG, and return that path."""
    path = run / PICTURES / name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    return path


def corner_note(axes: Axes, note: str) -> None:
    """Small text over the upper right corner."""
    axes.text(1.0, 1.02, note, transform=axes.transAxes, ha="right", fontsize=9, color=INK)
