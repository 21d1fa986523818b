"""The one error that a command shows without a traceback."""

from __future__ import annotations


class CommandError(Exception):
    """What the user asked for cannot be done; the message is one line and says what would help. Exit code 2."""
