"""The one error that a command shows as a single line."""

from __future__ import annotations


class CommandError(Exception):
    """The error of a command that cannot go on. Its message is one line that says what would help; exit code 2."""
