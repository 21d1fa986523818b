"""Tables on a terminal and in a file: ``verify`` in a real pseudo-terminal, and through a pipe."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from mannkern.training import tables

COLUMNS = [["", "first", "second"], ["us", "1.5", "12.5"]]
needs_rich = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="rich is not installed")
DRAW = "from mannkern.training.tables import side_by_side; print(*side_by_side({columns}, left=1), sep=chr(10))"


def test_a_plain_table_by_hand() -> None:
    """What is no terminal gets aligned text, without a frame and without colours."""
    assert tables.side_by_side(COLUMNS, left=1) == ["           us", "first     1.5", "second   12.5"]


@needs_rich
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_drawn_table() -> None:
    reader, terminal = os.openpty()
    command = [sys.executable, "-W", "ignore", "-c", DRAW.format(columns=COLUMNS)]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    subprocess.run(command, stdout=terminal, check=True, env=environment)
    os.close(terminal)
    drawn = os.read(reader, 10_000).decode()
    os.close(reader)
    assert "╭" in drawn
    assert "│ second │ 12.5 │" in drawn.replace("\x1b[2m", "").replace("\x1b[0m", "")
    piped = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    assert piped == "           us\nfirst     1.5\nsecond   12.5\n"


@needs_rich
@pytest.mark.parametrize("width", [20, 57, 58, 80])
def test_a_narrow_terminal_loses_no_number_and_no_name(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame where it fits, which takes 58 columns here; else plain lines, which a terminal wraps."""
    monkeypatch.setattr(tables, "is_rich", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [["instance", "1st"], ["MANN runs/glyphs-one", "95.4% ± 1.3%"], ["MANN runs/glyphs-two", "12.0% ± 0.8%"]]
    lines = tables.side_by_side(columns)
    text = "\n".join(lines)
    assert all(cell in text for column in columns for cell in column)
    assert "…" not in text
    assert ("╭" in text) == (width >= 58)
    assert len(lines) == (5 if width >= 58 else 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_who_reads_no_further_gets_no_error() -> None:
    """As ``mannkern verify --list | true`` does, which is gone before the first line on any machine."""
    command = [sys.executable, "-W", "ignore", "-u", "-m", "mannkern", "verify", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""
