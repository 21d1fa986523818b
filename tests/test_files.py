"""Files are whole at every moment: a write that fails leaves the old one, and no file beside it."""

import errno
import json
import os
from pathlib import Path
from typing import IO

import pytest

from mannkern.files import write_atomically, write_json


def test_a_file_by_hand(tmp_path: Path) -> None:
    """Two writes to one path: the second one replaces the first, and nothing else is in the folder."""
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "file", lambda file, content=content: file.write(content))
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", content)]


def test_a_failed_write_names_its_file(tmp_path: Path) -> None:
    """Python's own error of a full disk does not."""

    def write(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as error:
        write_atomically(tmp_path / "a.bin", write)
    assert error.value.filename == str(tmp_path / "a.bin")
    assert not any(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("replace"), replace(old, new)))
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert events == ["fsync", "replace", "fsync"]


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    """The inner one finishes while the outer one is at work; both files were whole, and the last rename counts."""
    path = tmp_path / "file"

    def outer(file: IO[bytes]) -> None:
        file.write(b"outer, ")
        write_atomically(path, lambda inner: inner.write(b"inner"))
        assert path.read_bytes() == b"inner"
        file.write(b"whole")

    write_atomically(path, outer)
    assert path.read_bytes() == b"outer, whole"


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"a": [1, None]})
    assert json.loads((tmp_path / "file").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"a": float("nan")})
    assert json.loads((tmp_path / "file").read_text()) == {"a": [1, None]}
