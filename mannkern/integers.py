"""The check of an integer argument, with one wording for models and tasks."""

from __future__ import annotations


def check_integer(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """Raises ``TypeError`` or ``ValueError``, naming the argument, unless it is an int from ``least`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: got {type(value).__name__}, need an integer")
    if value < least:
        raise ValueError(f"{name}: got {value}, need at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{name}: got {value}, need at most {most}")
