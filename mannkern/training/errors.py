"""The errors that a command shows as a single line."""

from __future__ import annotations

import errno


class CommandError(Exception):
    """The error of a command that cannot go on. Its message is one line that says what would help; exit code 2."""


def one_line(text: str) -> str:
    """``text`` with what a terminal would obey, such as a line break in the name of a file, written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_error(error: OSError) -> str:
    """What a file, or the system, refused."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def is_full(error: BaseException) -> bool:
    """Whether a disk, or what its user may use of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_not_writable(error: OSError) -> bool:
    """Whether a place is read-only, for everybody or for this user."""
    return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether Python, PyTorch's allocator or the one of a GPU has no more memory."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )
