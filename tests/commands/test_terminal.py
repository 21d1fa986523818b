"""What is printed: on a terminal, through a pipe, and where nobody can read it."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.training import tables
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import SIZES, run

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


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_keeps_no_command_from_its_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has None for a stream that its parent closed, as ``2>&-`` does in a shell."""
    monkeypatch.setattr(sys, name, None)
    assert run("train glyphs --steps 1 --run", tmp_path, SIZES) == 0
    getattr(sys, name).close()
    assert load_checkpoint(tmp_path)["step"] == 1  # type: ignore[index]
    assert (tmp_path / "evaluation.json").exists()


def test_what_a_terminal_cannot_show_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with PYTHONIOENCODING=ascii."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert run("train glyphs --steps 1 --run", tmp_path, SIZES) == 0
    sys.stdout.flush()
    assert b"20 episodes, ? half a 95% interval" in written.getvalue()


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
