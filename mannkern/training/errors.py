"""The one error that a command shows as a single line."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what the user wants. The message is one line and says what would help. Exit code 2."""
