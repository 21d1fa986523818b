"""Atomic writes: a file is either the old one or the whole new one, also after a kill or a power cut."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file in the folder of ``path``, flush it to the disk, then rename it to ``path``.

    Each call takes a name of its own for the temporary file, so several processes may write the same ``path``.
    An exception from ``write`` deletes the temporary file and leaves the old ``path`` as it was.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the new name is an entry of the folder, which has its own fsync
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def user_cache() -> Path:
    """The user's folder for what may be deleted: ``$XDG_CACHE_HOME/mannkern`` or ``~/.cache/mannkern``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mannkern"


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically. Raises ``ValueError`` for NaN and infinity, which JSON lacks."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
