"""The registry of memory families. A family is one folder of this package, and one line that registers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mannkern.memories.cases import Case, Draw, Operation
from mannkern.memories.core import Core, register_core


class Episode(NamedTuple):
    """How the fused episodes of a family's cell are verified: against a loop over the cell on the reference.

    sequence:   the module that runs them, such as mannkern.MANN, built with sizes F, D, N, W, R
    options:    its other options, by a name for each set of them
    state:      how each part of a random state is drawn
    choice_gap: (cell, state) -> the smallest distance between the numbers by which a step chooses its slots; None if it
                chooses none
    """

    sequence: Callable[..., Any]
    options: dict[str, dict[str, Any]]
    state: Mapping[str, Draw]
    choice_gap: Callable[[Any, Any], float] | None = None


class Family(NamedTuple):
    """A family of memory operations and the cell that is made of them.

    name:       "lrua", by which backends say that they have kernels for it
    operations: its public operations by name. ``mannkern.functional`` has them as attributes; the tests and
                ``python -m mannkern verify`` check them
    cases:      what is verified of the operations, by name
    cell:       the cell's class, a :class:`mannkern.memories.cell.MemoryCell`
    episode:    how fused episodes are verified, where a backend has them
    core:       the model that ``python -m mannkern train --model`` offers
    """

    name: str
    operations: dict[str, Operation]
    cases: dict[str, Case]
    cell: type[Any]
    episode: Episode | None = None
    core: Core | None = None


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> None:
    """Add a family. Raises ValueError where its name, or that of an operation or of its core, is taken."""
    names = {family.name: "family"} | dict.fromkeys(family.operations, "operation")
    taken = {name for other in FAMILIES.values() for name in (other.name, *other.operations)}
    for name, kind in names.items():
        if name in taken:
            raise ValueError(f"{kind}: got {name!r}, need a name that is not registered yet")
    if family.core is not None:
        register_core(family.core)
    FAMILIES[family.name] = family


def cases() -> dict[str, Case]:
    """The cases of all families by name."""
    return {name: case for family in FAMILIES.values() for name, case in family.cases.items()}
