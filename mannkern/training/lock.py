"""The lock on a run: two trainings in one folder would delete and overwrite each other's files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mannkern.files import naming
from mannkern.training import processes
from mannkern.training.errors import CommandError

try:
    import fcntl
except ImportError:  # Windows, where runs are not locked
    fcntl = None  # type: ignore[assignment]

LOCK = "train.lock"
_held: set[Path] = set()  # folders that this process has locked


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """A context in which no other process trains in the folder ``run``, which must exist. Of several ranks 0 locks it.

    The system frees the lock when the process ends, however it ends. The same process may lock a folder again.
    Raises ``CommandError``, which names the process that has the lock.
    """
    folder = run.resolve()
    if fcntl is None or folder in _held or processes.rank() > 0:
        yield
        return
    number = _acquire(run)
    _held.add(folder)
    try:
        yield
    finally:
        _held.remove(folder)
        (folder / LOCK).unlink(missing_ok=True)  # before it is freed, so that nobody locks a file without a name
        os.close(number)


def _acquire(run: Path) -> int:
    path = run / LOCK
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(number, 20).decode(errors="replace").strip()
            os.close(number)
            raise CommandError(f"{run} is in use: process {process} trains there; wait for it, or stop it") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                os.close(number)
                raise
            print(f"mannkern: {run}: this file system has no locks, so let nothing else train there", file=sys.stderr)
        if path.exists() and os.path.samestat(os.fstat(number), path.stat()):
            break
        os.close(number)  # its owner has just ended and deleted it
    try:
        with naming(path):
            os.ftruncate(number, 0)
            os.write(number, f"{os.getpid()}\n".encode())
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        os.close(number)
        raise
    return number
