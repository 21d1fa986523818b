"""TensorBoard's events of a run. They are a help, so where they cannot be written training goes on without them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from mannkern.training.errors import file_error, one_line

EVENTS = "tensorboard"


class Events:
    """A context that writes events into the folder ``run``. After the first failure it warns on stderr, and stops.

    The arguments beyond ``run`` are those of ``SummaryWriter``.
    """

    def __init__(self, run: Path, **arguments: Any) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # an extra: --help and verify work without it

        self.folder, self.writer = run / EVENTS, None
        self.previous_hook = threading.excepthook
        threading.excepthook = self._hook  # TensorBoard writes in a thread of its own, which would print a traceback
        self._attempt(lambda: setattr(self, "writer", SummaryWriter(str(self.folder), **arguments)))

    def write(self, method: str, *arguments: Any, **options: Any) -> None:
        """Call a method of ``SummaryWriter``, such as ``add_scalar``."""
        if self.writer is not None:
            self._attempt(lambda: getattr(self.writer, method)(*arguments, **options))

    def close(self) -> None:
        """Write what is left."""
        self.write("close")
        threading.excepthook = self.previous_hook

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            self.writer = None
            text = f"warning: {self.folder}: no more events for TensorBoard: {file_error(error)}"
            print(one_line(text), file=sys.stderr)

    def _hook(self, failed: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(failed.thread).__module__.startswith("tensorboard.")
        if not (of_tensorboard and isinstance(failed.exc_value, OSError)):
            self.previous_hook(failed)
