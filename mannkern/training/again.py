"""The command that a message advises to go on with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_GO_ON = ("train", "table", "evaluate")


def program() -> str:
    """What begins a command: ``python FILE`` where this process is a file of the user's that was given a command.

    Such a file registers tasks or models of its own, and no other process knows the runs of these.
    """
    main = sys.modules.get("__main__")
    is_file = getattr(main, "__spec__", None) is None and sys.argv[0].endswith(".py")
    if is_file and sys.argv[1:] and sys.argv[1] in _GO_ON:
        return f"python {shlex.quote(sys.argv[0])}"
    return "python -m mannkern"


def resume(run: Path) -> str:
    """The command that goes on training ``run``."""
    return f"{program()} train --run {shlex.quote(str(run))} --resume"
