"""The picture of the benchmarks on the CPU, from bench/results: ``python bench/figure.py`` draws it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.table import RESULTS
from mannkern.benchmark.plot import OTHERS
from mannkern.files import write_atomically
from mannkern.training.drawing import INK, RUN_COLOURS

FILE = RESULTS / "cpu.png"
NAMES = {"cpp": "mannkern", "scan": "mannkern, scan", **{name: title for name, (title, _) in OTHERS.items()}}
COLOURS = {"cpp": RUN_COLOURS[0], "scan": RUN_COLOURS[3], **{name: colour for name, (_, colour) in OTHERS.items()}}
LABELS = {"T": "steps T", "N": "slots N", "W": "width W", "R": "heads R"}
Rows = list[dict[str, Any]]


def load(name: str) -> Rows:
    """Rows of a benchmark."""
    rows: Rows = json.loads((RESULTS / f"cpu-{name}.json").read_text())["rows"]
    return rows


def curve(axes: Axes, rows: Rows, x: str, y: str) -> None:
    """A line for each contestant, dashed where it is a bound, both axes logarithmic."""
    for name in NAMES:
        points = sorted((row[x], row[y]) for row in rows if row["name"] == name)
        if points:
            style = {"ls": "--", "lw": 1.2} if name == "bound" else {"marker": "o", "ms": 3.5, "lw": 1.8}
            axes.plot(*zip(*points, strict=True), label=NAMES[name], color=COLOURS[name], **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    least, most = axes.get_ylim()
    # less than two powers of ten have too few marks at powers alone
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 * least else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw() -> Figure:
    """Episodes a second against B on one and two threads; time an episode against T, N, W and R."""
    figure = Figure(figsize=(11, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e8eb", lw=0.8)
        axes.tick_params(labelsize=8, colors=INK)
    throughput, costs = load("episode"), load("curves")
    for axes, threads in zip(panels[:, 0], (1, 2), strict=True):
        curve(axes, [row for row in throughput if row["threads"] == threads], "B", "episodes_per_second")
        axes.set_title(
            f"Training, {threads} thread{'s' * (threads > 1)}: episodes/s", fontsize=10, loc="left", color=INK
        )
        axes.set_xlabel("episodes at a time B", fontsize=9)
    for row in costs:
        row["us"] = 1e6 / row["episodes_per_second"]
    for axes, (name, label) in zip(panels[:, 1:].flat, LABELS.items(), strict=True):
        curve(axes, [row for row in costs if row["curve"] == name], "size", "us")
        what = "Training step" if name == "T" else "Step alone"
        axes.set_title(f"{what}: us/episode", fontsize=10, loc="left", color=INK)
        axes.set_xlabel(label, fontsize=9)
    handles = {label: line for axes in panels.flat for line, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return figure


def main() -> None:
    figure = draw()
    write_atomically(FILE, lambda file: figure.savefig(file, format="png"))
    print(FILE)


if __name__ == "__main__":
    main()
