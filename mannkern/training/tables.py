"""What the printed tables and the pictures of several runs share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mannkern.files import write_json
from mannkern.training.config import RunConfig
from mannkern.training.errors import is_not_writable, one_line
from mannkern.training.exported import is_exported

EVALUATION = "evaluation.json"
MOST_COLUMNS = 1 << 20  # of a terminal on which every table fits


class Result(Protocol):
    """The evaluation of a run: its folder, its settings and its step, beside scores of the experiment's own."""

    @property
    def run(self) -> Path: ...

    @property
    def config(self) -> RunConfig: ...

    @property
    def step(self) -> int: ...


def run_names(results: Sequence[Result]) -> list[str]:
    """The models' names, such as MANN; with the folders too where two runs have one model."""
    names = [result.config.model.upper() for result in results]
    if len(set(names)) == len(names):
        return names
    places = [str(result.run.stem if is_exported(result.run) else result.run) for result in results]
    if len(set(places)) < len(places):  # a folder beside the file that was exported from it
        places = [str(result.run) for result in results]
    return [f"{name} {place}" for name, place in zip(names, places, strict=True)]


def write_evaluation(run: Path, record: object) -> None:
    """Write ``evaluation.json`` into the folder of a run. The file of an exported model stays alone.

    Where the folder cannot be written to, this warns on stderr: what was measured is still to be printed.
    """
    if is_exported(run):
        return
    try:
        write_json(run / EVALUATION, record)
    except OSError as error:
        if not is_not_writable(error):
            raise
        reason = f"so it gets no {EVALUATION} and no pictures: {error.strerror}"
        print(one_line(f"warning: {run} cannot be written to, {reason}"), file=sys.stderr)


def training_lines(results: Sequence[Result], unit: str) -> list[str]:
    """For each run a line that says on how many ``unit`` ("episodes") it was trained."""
    return [
        f"{name}: {result.step:,} steps, {result.step * result.config.batch_size:,} {unit} of training"
        for name, result in zip(run_names(results), results, strict=True)
    ]


def side_by_side(columns: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """Columns of cells, the first of each its head -> the lines of a table, cells flush right but in ``left`` columns.

    On a terminal the table is drawn by rich, where that is installed and the table fits. Else it is plain text.
    """
    drawn = _draw(columns, left) if is_rich() else None
    if drawn is not None:
        return drawn
    widths = [max(map(len, column)) for column in columns]
    return [
        "   ".join(
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]


def is_rich() -> bool:
    """Whether output goes to a terminal and rich is installed."""
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


def _draw(columns: Sequence[Sequence[str]], left: int) -> list[str] | None:
    """The lines of a table in a frame; None where the terminal is too narrow, since rich would cut its cells."""
    from rich import box  # an extra
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, header_style="bold", border_style="dim")
    for k, column in enumerate(columns):
        table.add_column(Text(column[0]), justify="left" if k < left else "right", no_wrap=True)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(Text, row))
    console = Console()
    if console.measure(table, options=console.options.update(width=MOST_COLUMNS)).maximum > console.width:
        return None
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n").split("\n")
