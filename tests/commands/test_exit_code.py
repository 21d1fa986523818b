"""How every command line ends: one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.commands.exit_code import exit_code
from mannkern.training.errors import CommandError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CommandError("--lr: got 0,\nneed more"), 2, "tool: --lr: got 0,\\nneed more\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "tool: x: No such file\n"),
        (OSError(errno.ENOSPC, "No space left"), 1, "tool: No space left\n"),
        (MemoryError(), 2, "tool: not enough memory; lower the batch size or the sizes of the model\n"),
        (KeyboardInterrupt(), 130, "\ntool: interrupted\n"),
    ],
)
def test_errors_by_hand(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error

    assert exit_code("tool", command) == code
    assert capsys.readouterr().err == line


def test_without_an_error_it_is_that_of_the_command() -> None:
    assert exit_code("tool", lambda: 3) == 3


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="defect"):
        exit_code("tool", lambda: (_ for _ in ()).throw(RuntimeError("defect")))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["-m", "mannkern", "verify", "--list"], 141),
        (["-m", "bench.science", "--list"], 141),
        (["bench/table.py"], -13),
    ],
)
def test_output_that_nobody_reads_is_no_error(command: list[str], code: int) -> None:
    """As with ``| head``. What the command has printed waits in Python until its end, as it does for any pipe."""
    command = [sys.executable, "-W", "ignore", *command]
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)  # before it starts, or a short output could be written in time
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (code, "")
