"""Files that are whole: written atomically, and tensors that are checked before they are read."""

from __future__ import annotations

import json
import os
import pickletools
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

TEMPORARY = ".tmp"
_MOST_PICKLE = 4 << 20  # bytes that describe tensors, some 200 each, and containers, which take up to 80 times as many
# What the pickle of a file may name: torch.load allows more, such as bytearray, which takes as much as a number says.
_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|tensor_v3|parameter)"
    r"|torch (\w+Storage|Size|device|bool|[a-z]+\d+\w*)"
)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], previous: Path | None = None) -> None:
    """Let ``write`` fill a temporary file in the folder of ``path``, flush it to the disk, then rename it to ``path``.

    Each call takes a name of its own for the temporary file, so several processes may write the same ``path``. A link
    at that name, or at ``path``, is not followed. An exception from ``write`` deletes the temporary file and leaves the
    old ``path`` as it was. previous: the name that the old file, if there is one, then has.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with naming(path), open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the new name is an entry of the folder, which has its own fsync
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context in which the error of a write, such as on a full disk, names ``path`` where it names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:  # without a number it is not the system's
            error.filename = os.fspath(path)
        raise


def user_cache() -> Path:
    """The user's folder for what may be deleted: ``$XDG_CACHE_HOME/mannkern`` or ``~/.cache/mannkern``.

    Raises ``RuntimeError`` where the variable is not set and the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mannkern"


def _keep(path: Path, previous: Path) -> None:
    """Give the file at ``path`` the second name ``previous``, so that ``path`` is there at every moment."""
    link = previous.with_name(f"{previous.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        os.link(path, link)
    except OSError:  # a file system without links: a copy instead
        write_atomically(previous, lambda file: file.write(path.read_bytes()))
    else:
        os.replace(link, previous)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically. Raises ``ValueError`` for NaN and infinity, which JSON lacks."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def save_tensors(value: object, file: IO[bytes]) -> None:
    """``torch.save``, which raises the error of ``file`` where one of its writes fails."""
    errors: list[OSError] = []

    class Watched:
        def write(self, content: Any) -> int:
            try:
                return file.write(content)
            except OSError as error:
                errors.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(value, Watched())  # type: ignore[arg-type]
    except RuntimeError:  # torch's writer then complains of the position at which its file ends
        if errors:
            raise errors[0] from None
        raise


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes; else ``ValueError``. Also raises ``OSError``."""
    with _open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path}: got more than {most} bytes, need fewer")
    return content


@contextmanager
def _open_regular(path: Path) -> Iterator[IO[bytes]]:
    # a pipe would wait for a writer for ever
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: got no regular file, need one")
        yield file


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote to ``path``, on the CPU, after every checksum was verified. It runs no code.

    ``torch.load`` verifies no checksum, so a flipped bit would become another number. Raises ``ValueError`` where the
    file is damaged, is no regular file or takes more memory than its own size, and ``FileNotFoundError``.
    """
    with _open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                packed = any(item.compress_type != zipfile.ZIP_STORED for item in entries)
                if packed or sum(item.file_size for item in entries) > os.fstat(file.fileno()).st_size:
                    raise ValueError("its entries are larger than the file")
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"checksum: got another of {damaged}, need the one beside it")
                for item in entries:
                    if item.filename.lower().endswith(".pkl"):  # PyTorch finds its entries in any case of letters
                        if item.file_size > _MOST_PICKLE:
                            raise ValueError(
                                f"{item.filename}: got {item.file_size} bytes, need at most {_MOST_PICKLE}"
                            )
                        _check_names(archive.read(item))
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make zipfile and torch.load raise nearly anything
            reason = (str(error) or repr(error)).splitlines()[0]
            raise ValueError(f"{path}: got damaged content ({reason}), need what torch.save wrote") from error


def _check_names(pickled: bytes) -> None:
    for opcode, name, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not _NAMES.fullmatch(str(name)):
            raise ValueError(f"data.pkl: got a call of {name or 'what it names later'}, need tensors and containers")
