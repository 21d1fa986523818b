"""The README's code runs, and the tables of the README and of docs/performance.md are the measured ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.table import curves_table, gpu_reports, gpu_table, memory_table, small_gpu_table, table
from tests.docs.markdown import python_blocks, text

README, PERFORMANCE = text("README.md"), text("docs/performance.md")
USE, LOAD = python_blocks(README)


def rows(markdown: str) -> list[list[str]]:
    """The cells of each line of tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]


def test_rows_of_a_table_by_hand() -> None:
    assert rows("| B | us |\n|---|---|\n| 1 | 99 us |\n\nprose") == [["B", "us"], ["---", "---"], ["1", "99 us"]]


def test_figures_are_the_measured_ones() -> None:
    for measured in (table(), curves_table(), memory_table(), *map(gpu_table, gpu_reports())):
        assert measured in PERFORMANCE
    for measured in map(small_gpu_table, gpu_reports()):
        assert measured in README


def test_small_table_is_of_the_measured_figures() -> None:
    """The training step of MANN at five batch sizes: columns of the table of docs/performance.md."""
    begin, end = "<!-- small table of bench/table.py -->", "<!-- end of the small table -->"
    head, _, *small = rows(README[README.index(begin) : README.index(end)])
    small = small[:10]  # tables of GPUs follow
    names, *measured = rows(table())
    columns = [names.index(name) for name in head]
    steps = [row for row in measured if row[0] == "training step" and row[1] in ("1", "16", "64", "256", "1024")]
    assert small == [[row[column] for column in columns] for row in steps]
    assert len(small) == 10


def test_ten_lines_of_use_train() -> None:
    scope: dict[str, object] = {}
    exec(USE, scope)
    cell = scope["cell"]
    assert isinstance(cell, torch.nn.Module)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


def test_the_loaded_model_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Chance is one of five; the printed line has five classes and the number of slots."""
    scope: dict[str, Any] = {"torch": torch}
    exec(LOAD, scope)
    assert int((scope["answers"] == torch.arange(5)).sum()) >= 3
    assert capsys.readouterr().out.endswith(") 128\n")
