"""What is printed: on a terminal, through a pipe, and where nobody can read it."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.training import tables
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import COPY, SIZES, run

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


class Gone(io.StringIO):
    """A stream that nobody reads any more: nothing can be written to it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EPIPE])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_nobody_reads_ends_no_training(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a terminal that went away, a pipe that was closed. What stdout lacks is told at the end."""
    gone = Gone(number)
    monkeypatch.setattr(sys, name, gone)
    code = run("train glyphs --steps 3 --run", tmp_path, SIZES.replace("--threads 1", ""))
    assert code == (0 if name == "stderr" else {errno.ENOSPC: 1, errno.EIO: 2, errno.EPIPE: 141}[number])
    assert getattr(sys, name) is gone
    assert load_checkpoint(tmp_path)["step"] == 3  # type: ignore[index]
    assert (tmp_path / "evaluation.json").exists()


def test_an_error_that_nobody_reads_keeps_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone(errno.ENOSPC))
    assert run("train copy --lr 0") == 2


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no file that is always full")
def test_streams_that_are_full_change_no_exit_code(tmp_path: Path) -> None:
    """Python tries again at its exit what was not written, and would end with 120."""
    command = [sys.executable, "-W", "ignore", "-m", "mannkern", "train", "copy", "--steps", "2", "--no-evaluate"]
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for out, code in ((os.devnull, 0), ("/dev/full", 1)):
        with open(out, "w") as stdout, open("/dev/full", "w") as stderr:
            run_folder = ["--overwrite", "--run", str(tmp_path / "run"), *COPY.split()]
            done = subprocess.run([*command, *run_folder], env=environment, stdout=stdout, stderr=stderr)
            assert done.returncode == code
        assert load_checkpoint(tmp_path / "run")["step"] == 2  # type: ignore[index]
