"""What the printed tables and the pictures of several runs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mannkern.files import write_json
from mannkern.training.config import RunConfig
from mannkern.training.exported import is_exported

EVALUATION = "evaluation.json"


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
    places = [result.run.stem if is_exported(result.run) else result.run for result in results]
    return [f"{name} {place}" for name, place in zip(names, places, strict=True)]


def write_evaluation(run: Path, record: object) -> None:
    """Write ``evaluation.json`` into the folder of a run. The file of an exported model stays alone."""
    if not is_exported(run):
        write_json(run / EVALUATION, record)


def training_lines(results: Sequence[Result], unit: str) -> list[str]:
    """For each run a line that says on how many ``unit`` ("episodes") it was trained."""
    return [
        f"{name}: {result.step:,} steps, {result.step * result.config.batch_size:,} {unit} of training"
        for name, result in zip(run_names(results), results, strict=True)
    ]


def side_by_side(columns: Sequence[Sequence[str]]) -> list[str]:
    """Columns of cells, the first of each its head -> the lines of a table, cells flush right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
