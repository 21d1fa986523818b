"""The README's code runs, and the tables of the README and of docs/performance.md are the measured ones."""

from __future__ import annotations

import torch

from bench.table import gpu_table, gpu_tables, memory_table, table
from tests.docs.markdown import python_blocks, text

README, PERFORMANCE = text("README.md"), text("docs/performance.md")
(USE,) = python_blocks(README)


def rows(markdown: str) -> list[list[str]]:
    """The cells of each line of tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]


def test_rows_of_a_table_by_hand() -> None:
    assert rows("| B | us |\n|---|---|\n| 1 | 99 us |\n\nprose") == [["B", "us"], ["---", "---"], ["1", "99 us"]]


def test_figures_are_the_measured_ones() -> None:
    for measured in (table(), memory_table(), *gpu_tables()):
        assert measured in PERFORMANCE


def test_small_table_is_of_the_measured_figures() -> None:
    """The training step of MANN at five batch sizes: columns of the table of docs/performance.md."""
    begin, end = "<!-- small table of bench/table.py -->", "<!-- end of the small table -->"
    head, _, *small = rows(README[README.index(begin) : README.index(end)])
    names, *measured = rows(table())
    columns = [names.index(name) for name in head]
    steps = [row for row in measured if row[0] == "training step" and row[1] in ("1", "16", "64", "256", "1024")]
    assert small == [[row[column] for column in columns] for row in steps]
    assert len(small) == 10


def test_table_of_a_gpu() -> None:
    named = {"triton": 2e-3, "triton, graph": 1e-3, "reference": 8e-3, "compiled": 3e-3}
    rows = [{"what": "step", "B": 16, "name": name, "seconds": x, "of_bound": 5e-4 / x} for name, x in named.items()]
    rows.append({"what": "step", "B": 64, "name": "reference", "seconds": 1.0, "of_bound": 0.1})  # alone: no ratio
    assert gpu_table({"gpu": "some-gpu", "rows": rows}).splitlines() == [
        "| some-gpu | B | mannkern | of the bound | reference | compiled |",
        "|---|---|---|---|---|---|",
        "| step | 16 | 1,000 us | 50% | 8.00 | 3.00 |",
    ]


def test_ten_lines_of_use_train() -> None:
    scope: dict[str, object] = {}
    exec(USE, scope)
    cell = scope["cell"]
    assert isinstance(cell, torch.nn.Module)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())
