"""Tables of the command line: drawn by rich on a terminal where it is installed, plain text in a file or a pipe."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def is_rich() -> bool:
    """Whether tables are drawn: on a terminal, where rich is installed."""
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a title. Its first column is flush left, the others are flush right."""
    if is_rich():
        _print_rich(title, head, rows)
        return
    print(f"\n{title}")
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    for row in (head, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(len(first)), *others]).rstrip(), flush=True)


def _print_rich(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left")
    for k, name in enumerate(head):
        table.add_column(Text(name), justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
