"""The options of the command line, made from the settings of the tasks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from .config import RunConfig, flag
from .errors import CommandError
from .experiment import CONFIGS

EPISODES = 1000
DEFAULT_TASK = "glyphs"


class TaskHelp(argparse.Action):
    """``train TASK --help``: the settings that apply to the task, with its defaults."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        task = namespace.task or DEFAULT_TASK
        shown = argparse.ArgumentParser(
            prog=parser.prog,
            description=f"Train on {task}, evaluate, draw. Defaults are the paper's (Santoro et al. 2016 for omniglot "
            "and glyphs, Vinyals et al. 2016 for the few-shot tasks, Finn et al. 2017 for sinusoids, Graves et al. "
            "2014 for the others) or those of its published replications, as each option says. TASK is one of "
            f"{', '.join(CONFIGS)} (default: {DEFAULT_TASK}); TASK --help shows another one's settings.",
        )
        add_settings(shown, CONFIGS[task])
        shown.print_help()
        parser.exit()


def add_settings(parser: argparse.ArgumentParser, *classes: type[RunConfig]) -> None:
    """Add how a run begins and ends, then the settings of the ``classes``."""
    parser.add_argument("task", nargs="?", choices=tuple(CONFIGS), metavar="TASK", help="what to learn")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/TASK-MEMORY)")
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--resume", action="store_true", help="continue the run in that folder, with its own settings")
    exists.add_argument("--overwrite", action="store_true", help="delete the run in that folder first")
    parser.add_argument("--no-evaluate", action="store_true", help="neither evaluate nor draw at the end")
    add_episodes(parser)
    add_groups(parser, *classes, without=("task",))


def add_groups(parser: argparse.ArgumentParser, *classes: type[RunConfig], without: Iterable[str]) -> None:
    """Add a group of settings for each class that the ``classes`` are made of, ``without`` some of them."""
    added = set(without)
    for cls in classes:
        defaults = cls()
        entries = {entry.name: entry for entry in fields(cls)}
        for part in cls.__mro__[:-1]:
            names = [name for name in part.__annotations__ if name in entries and name not in added]
            group = parser.add_argument_group(part.__dict__.get("GROUP"))
            for name in names:
                _add_setting(
                    group, entries[name], getattr(defaults, name), _having(cls, entries[name])[1], len(classes) == 1
                )
            added.update(names)


def _choices(cls: type[RunConfig], name: str) -> tuple[str, ...]:
    return next(entry.metadata["choices"] for entry in fields(cls) if entry.name == name)


def _having(cls: type[RunConfig], entry: Field[Any]) -> tuple[str, tuple[str, ...]]:
    """``"memory"`` or ``"task"``, and the models or tasks of ``cls`` that have the setting; none where all have it."""
    for kind in ("memory", "task"):
        choices = _choices(cls, kind)
        having = tuple(choice for choice in choices if choice in entry.metadata["only"])
        if having and having != choices:
            return kind, having
    return "memory", ()


def _add_setting(
    group: argparse._ArgumentGroup, entry: Field[Any], default: Any, having: tuple[str, ...], choose: bool
) -> None:
    about = str(entry.metadata["about"]).replace("%", "%%")
    if having:
        about = f"{', '.join(having)}: {about}"
    if default is not None:
        about = f"{about} (default: {default})"
    # Absent stays absent, so that --resume can tell what was asked for from what is default.
    if isinstance(default, bool):
        group.add_argument(flag(entry), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about)
    else:  # choices differ between tasks: the settings check them
        choices = entry.metadata["choices"] or None if choose else None
        kind = entry.metadata["kind"]
        group.add_argument(flag(entry), type=kind, choices=choices, default=argparse.SUPPRESS, help=about)


def add_episodes(parser: argparse.ArgumentParser) -> None:
    """Add ``--episodes``, also called ``--sequences``: how many to evaluate on."""
    about = f"episodes, or sequences of each size, to evaluate on (default: {EPISODES})"
    parser.add_argument("--episodes", "--sequences", type=int, default=EPISODES, help=about)


def check_apply(cls: type[RunConfig], given: dict[str, Any]) -> None:
    """Raises ``CommandError`` naming the first of ``given`` that is no setting of ``cls``."""
    for name in given:
        if name not in {entry.name for entry in fields(cls)}:
            raise CommandError(f"--{name.replace('_', '-')} does not apply to {given.get('task', 'this run')}")


def check_used(cls: type[RunConfig], given: dict[str, Any]) -> None:
    """Raises ``CommandError`` naming the first of ``given`` that does nothing with the model, or on the task, given."""
    chosen = {"task": cls().task, "memory": cls().memory} | given
    for entry in fields(cls):
        kind, having = _having(cls, entry)
        if entry.name in given and having and chosen[kind] in _choices(cls, kind) and chosen[kind] not in having:
            raise CommandError(f"{flag(entry)} does not apply to {chosen[kind]}, only to {', '.join(having)}")
