"""The files of a zip archive or a folder that may come from a stranger: what is read is counted, and bounded.

Sizes that an archive tells are not believed, and only regular files are opened: a pipe would wait for ever.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

MOST_FILE_BYTES = 1 << 16  # of a drawing; the largest takes under 1 KiB
MOST_BYTES = 1 << 25  # of all drawings together, which take about 5 MB
MOST_ENTRIES = 50_000  # Omniglot's larger part has 19,280 drawings and about 1,000 folders
MOST_DIRECTORY_BYTES = 1 << 22  # of a zip's list of entries, which is read at once
MOST_ZIP_BYTES = 1 << 26  # of a zip; the larger one takes 9.5 MB


def checksum(source: Path) -> str:
    """SHA-256 of a zip, or of the names and contents of the drawings in a folder. Raises ``ValueError`` as below."""
    result = hashlib.sha256()
    if source.is_dir():
        for name, content in read_folder(source):
            result.update(f"{name}\0{len(content)}\0".encode() + content)
    else:
        with _regular_file(source, MOST_ZIP_BYTES) as file:
            while part := file.read(1 << 20):
                result.update(part)
    return result.hexdigest()


def read_zip(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each drawing of an archive. Nothing is extracted.

    Raises ``ValueError``, naming the entry, where the archive is damaged, has other paths, or more than the bounds.
    """
    with _regular_file(source, MOST_ZIP_BYTES) as file:
        with refused(str(source), "an undamaged zip archive"):
            archive = zipfile.ZipFile(_Bounded(file, MOST_DIRECTORY_BYTES))
        with archive:
            bounds = _Bounds(source)
            for entry in archive.infolist():
                bounds.add_entry()
                # Nothing is extracted, but such an entry shows that the archive is another one.
                parts = re.split(r"[/\\]", entry.orig_filename)
                if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in entry.orig_filename:
                    raise ValueError(f"{source}: got the entry {entry.orig_filename!r}, need paths inside the folder")
                if len(parts) != 4 or not parts[3].endswith(".png") or parts[0] != source.stem:
                    continue
                name = "/".join(parts[1:])
                _check_size(f"{source}: {name}", entry.file_size)
                with refused(f"{source}: {name}", "an undamaged zip archive"):
                    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError(f"compression: got {entry.compress_type}, need stored or deflated")  # bounded
                    with archive.open(entry) as opened:
                        content = opened.read(MOST_FILE_BYTES + 1)
                        if opened.read(1):
                            raise ValueError("got more bytes than the archive says")
                bounds.add_bytes(len(content))
                yield name, content


def read_folder(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each drawing of a folder, sorted by path. Raises ``ValueError`` as ``read_zip``."""
    bounds = _Bounds(source)
    paths = [
        Path(drawing)
        for alphabet in _entries(source, bounds)
        if os.path.isdir(alphabet)
        for character in _entries(alphabet, bounds)
        if os.path.isdir(character)
        for drawing in _entries(character, bounds)
        if os.fspath(drawing).endswith(".png")
    ]
    for path in sorted(paths):
        with _regular_file(path, MOST_FILE_BYTES) as file:
            content = file.read(MOST_FILE_BYTES + 1)
        _check_size(str(path), len(content))
        bounds.add_bytes(len(content))
        yield path.relative_to(source).as_posix(), content


def read_regular_file(path: Path, most: int) -> bytes:
    """The content of a file. Raises ``ValueError`` where it is no regular file or has more than ``most`` bytes."""
    with _regular_file(path, most) as file:
        content = file.read(most + 1)
    _check_size(str(path), len(content), most)
    return content


@contextmanager
def refused(where: str, need: str) -> Iterator[None]:
    """A context in which every error becomes a ``ValueError`` that names the place and what is needed."""
    try:
        yield
    except Exception as error:  # damaged bytes make zipfile and Pillow raise nearly any error
        if type(error).__name__ == "UnidentifiedImageError":  # its message names an object in memory
            raise ValueError(f"{where}: got a file of another kind, need {need}") from error
        raise ValueError(f"{where}: {error}; need {need}") from error


class _Bounds:
    """Counts entries and bytes, whatever the source says of them."""

    def __init__(self, source: Path) -> None:
        self.source, self.entries, self.bytes = source, 0, 0

    def add_entry(self) -> None:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise ValueError(f"{self.source}: got more than {MOST_ENTRIES} entries, need Omniglot's")

    def add_bytes(self, count: int) -> None:
        self.bytes += count
        if self.bytes > MOST_BYTES:
            raise ValueError(f"{self.source}: got more than {MOST_BYTES} bytes of drawings, need Omniglot's")


class _Bounded:
    """A file of which no single read takes more than ``most`` bytes: the list of entries is read at once."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.most = file, most

    def read(self, count: int = -1) -> bytes:
        content = self.file.read(min(count, self.most + 1) if count >= 0 else self.most + 1)
        if len(content) > self.most:
            raise ValueError(f"list of entries: got more than {self.most} bytes, need fewer")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _entries(folder: str | os.PathLike[str], bounds: _Bounds) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            bounds.add_entry()
            yield entry.path


@contextmanager
def _regular_file(path: Path, most: int) -> Iterator[IO[bytes]]:
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        entry = os.fstat(number)
        if not stat.S_ISREG(entry.st_mode):
            raise ValueError(f"{path}: got no regular file, need one")
        _check_size(str(path), entry.st_size, most)
    except ValueError:
        os.close(number)
        raise
    with open(number, "rb") as file:
        yield file


def _check_size(where: str, num_bytes: int, most: int = MOST_FILE_BYTES) -> None:
    if num_bytes > most:
        raise ValueError(f"{where}: got {num_bytes} bytes, need at most {most}")
