"""What printed tables and pictures of several runs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .config import RunConfig

EVALUATION = "evaluation.json"


class Result(Protocol):
    """A run and the step it stands at."""

    @property
    def run(self) -> Path: ...

    @property
    def config(self) -> RunConfig: ...

    @property
    def step(self) -> int: ...


def run_names(results: Sequence[Result]) -> list[str]:
    """MANN, NTM or LSTM where that tells the runs apart, else their folders too."""
    names = [result.config.memory.upper() for result in results]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {result.run}" for name, result in zip(names, results, strict=True)]


def trained(results: Sequence[Result], unit: str) -> list[str]:
    """A line for each run: on how many ``unit`` ("episodes") it was trained."""
    return [
        f"{name}: {result.step:,} steps, {result.step * result.config.batch_size:,} {unit} of training"
        for name, result in zip(run_names(results), results, strict=True)
    ]


def side_by_side(columns: Sequence[Sequence[str]]) -> list[str]:
    """Columns of cells, each headed by its first, as lines with every cell to the right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
