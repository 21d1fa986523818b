"""Streams that nobody may be reading any more: a full disk, a terminal that went away, a pipe that was closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Lasting:
    """``stream``, except that what cannot be written is lost in silence: a progress bar may end no training."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text`` if that is possible."""
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits if that is possible."""
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def say(text: str) -> None:
    """Print ``text`` on stdout, where training must not end because nobody reads it.

    What was not written waits in the stream, so the command still ends with the error; an unbuffered one loses it.
    """
    with suppress(OSError):
        print(text, flush=True)


@contextmanager
def mended_streams() -> Iterator[None]:
    """A context in which every print to stderr succeeds, and one to stdout wherever that is open.

    A stream that its parent closed is one that nobody reads, and a sign that the encoding lacks is "?". At the end
    what a stream cannot write is dropped, which Python would try again at its exit and then change the exit code.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a notebook's stream has none, and needs none
    if reconfigure is not None:
        reconfigure(errors="replace")
    out, errors = sys.stdout, sys.stderr
    sys.stderr = Lasting(errors)
    try:
        yield
    finally:
        sys.stderr = errors
        for stream in (out, errors):
            _drop_unwritten(stream)


def _drop_unwritten(stream: Any) -> None:
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):  # of a stream without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except ValueError:  # it was closed
        pass
