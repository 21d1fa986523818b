"""One training in a folder at a time; a lock ends with its process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.training.errors import CommandError
from mannkern.training.lock import LOCK, locked

pytest.importorskip("fcntl")
HOLD = """
import sys, time
from pathlib import Path
from mannkern.training.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def hold(run: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(CommandError, match=f"is in use: process {process.pid} trains there"), locked(tmp_path):
            pass
        assert (tmp_path / LOCK).read_text() == f"{process.pid}\n", "the refused one changes nothing"
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / LOCK).exists(), "killed, so it could not delete it"
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(number: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        with pytest.raises(OSError, match="No space left on device") as error, locked(tmp_path):
            pass
    assert error.value.filename == str(tmp_path / LOCK)
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


def test_a_process_may_lock_its_folder_twice(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


def test_a_link_at_its_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "other").read_text() == "mine"
