"""The picture of a benchmark: bars of one configuration, or episodes a second against the batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mannkern.backends import BACKENDS, REFERENCE
from mannkern.files import write_atomically
from mannkern.training.drawing import INK, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]
OTHERS = {
    "lstm": ("nn.LSTM", RUN_COLOURS[5]),
    "compiled": ("torch.compile", RUN_COLOURS[1]),
    "matmul": ("eager, products", RUN_COLOURS[2]),
    "reference": ("eager reference", RUN_COLOURS[4]),
    "bound": ("bound", INK),
}


def name_of(contestant: str) -> str:
    """What a reader calls a contestant: "mannkern (...)" with the backend, "torch.compile", "nn.LSTM, graph"."""
    name, comma, graph = contestant.partition(",")
    if name in BACKENDS and name != REFERENCE.name:
        return f"mannkern ({contestant})"
    return OTHERS[name][0] + comma + graph if name in OTHERS else contestant


def colour_of(contestant: str) -> str:
    """The colour of a contestant, which is mannkern's own for all its backends."""
    name = contestant.partition(",")[0]
    return OTHERS[name][1] if name in OTHERS else RUN_COLOURS[0]


def draw(rows: Rows) -> Figure:
    """A panel for each number of threads. One batch size gives bars, several give curves."""
    threads = list(dict.fromkeys(row["threads"] for row in rows))
    first = rows[0]
    sizes = ", ".join(f"{letter} = {first[letter]}" for letter in "TFDNWR")
    what = "training step" if first["gradient"] else "forward pass"
    figure = new_figure(f"{first['model'].upper()}, {what} on {first['device']}", (8, 1.2 + 2.6 * len(threads)))
    for axes, count in zip(figure.subplots(len(threads), 1, squeeze=False)[:, 0], threads, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        axes.set_axisbelow(True)
        of_count = [row for row in rows if row["threads"] == count]
        draw_panel = _draw_bars if len({row["batch"] for row in of_count}) == 1 else _draw_curves
        draw_panel(axes, of_count)
        of_threads = f"{count} thread{'s' * (count > 1)}; " if first["device"] == "cpu" else ""
        axes.set_title(of_threads + sizes, fontsize=10, loc="left", color=INK)
    return figure


def _draw_bars(axes: Axes, rows: Rows) -> None:
    """A bar for each contestant. The bound is a line, or words where it is so far away that bars would shrink."""
    bound = next((row["episodes_per_second"] for row in rows if row["name"] == "bound"), None)
    batch, rows = rows[0]["batch"], [row for row in rows if row["name"] != "bound"]
    names = [name_of(row["name"]) for row in rows]
    rates = [row["episodes_per_second"] for row in rows]
    bars = axes.barh(names, rates, color=[colour_of(row["name"]) for row in rows], height=0.65)
    texts = [f"{rate:,.0f}" + ("" if row["B"] == row["batch"] else f"  (B = {row['B']:,})")
             for rate, row in zip(rates, rows)]  # fmt: skip
    axes.bar_label(bars, texts, padding=4, fontsize=9, color=INK)
    axes.invert_yaxis()
    fastest = max(rates, default=bound or 1.0)
    end, label = 1.25 * fastest, f"episodes/s at B = {batch:,}"
    if bound is not None and bound <= 2 * fastest:
        axes.axvline(bound, color=INK, ls="--", lw=1.2)
        end, label = max(end, 1.05 * bound), f"{label}; dashed: the bound, {bound:,.0f}"
    elif bound is not None:
        label += f"; the bound, {bound:,.0f}, is beyond the axis"
    axes.set_xlim(0, end)
    axes.grid(axis="x", color="#e6e8eb", lw=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(label, fontsize=9)


def _draw_curves(axes: Axes, rows: Rows) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for name in dict.fromkeys(row["name"] for row in rows):
        points = sorted({row["B"]: row["episodes_per_second"] for row in rows if row["name"] == name}.items())
        style: dict[str, Any] = {"ls": "--", "lw": 1.2} if name == "bound" else {"marker": "o", "ms": 4, "lw": 1.8}
        axes.plot(*zip(*points), color=colour_of(name), label=name_of(name), **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row["B"] for row in rows}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")  # contestants differ by factors
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#e6e8eb", lw=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("batch size B, in episodes", fontsize=9)
    axes.set_ylabel("episodes/s", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def save(rows: Rows, file: Path) -> None:
    """Draw the rows and write the picture to ``file``, as PNG, SVG or PDF by its name."""
    figure, kind = draw(rows), file.suffix.removeprefix(".") or "png"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda out: figure.savefig(out, format=kind))
