"""The options of the command line, made from the settings of the tasks, and the checks of their values."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from mannkern.experiments.registry import DEFAULT_TASK, config_classes, kind_of
from mannkern.training.config import RENAMED, RunConfig, choices_of, only_with
from mannkern.training.errors import CommandError
from mannkern.training.flags import flag

EPISODES = 1000


class TaskHelp(argparse.Action):
    """``train TASK --help``: the settings of the task, with its defaults."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        task = namespace.task or DEFAULT_TASK
        classes = config_classes()
        shown = argparse.ArgumentParser(
            prog=parser.prog,
            description=f"Trains a model on {task} ({kind_of(task).paper}), evaluates it and draws pictures. TASK is "
            f"one of {', '.join(classes)} (default: {DEFAULT_TASK}); TASK --help shows the settings of another one.",
        )
        add_settings(shown, classes[task])
        shown.print_help()
        parser.exit()


class RenamedOption(argparse.Action):
    """An option of earlier versions: it stops the command and says what the option is called now."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        raise CommandError(f"{option} is now {flag(RENAMED[self.dest])}: {flag(RENAMED[self.dest])} {values}")


def add_settings(parser: argparse.ArgumentParser, *classes: type[RunConfig]) -> None:
    """Add the options of how a run begins and ends, then the settings of the ``classes``."""
    parser.add_argument("task", nargs="?", choices=tuple(config_classes()), metavar="TASK", help="what to learn")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/TASK-MODEL)")
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--resume", action="store_true", help="continue the run in that folder, with its own settings")
    exists.add_argument("--overwrite", action="store_true", help="delete the run in that folder first")
    parser.add_argument("--no-evaluate", action="store_true", help="neither evaluate nor draw at the end")
    add_episodes(parser)
    add_groups(parser, *classes, without=("task",))


def add_renamed(parser: argparse.ArgumentParser) -> None:
    """Add the options of earlier versions, which --help does not show."""
    for name in ("memory", "read_heads", "write_heads"):
        parser.add_argument(flag(name), action=RenamedOption, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_groups(parser: argparse.ArgumentParser, *classes: type[RunConfig], without: Iterable[str]) -> None:
    """Add the settings of the ``classes`` as options, a group for each heading, except the settings ``without``."""
    added = set(without)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for cls in classes:
        defaults = cls()
        entries = {entry.name: entry for entry in fields(cls)}
        names = [name for part in cls.__mro__[:-1] for name in part.__annotations__ if name in entries]
        headings = {name: _heading(cls, name) for name in names}
        for name in sorted(headings, key=lambda name: headings[name] == RunConfig.GROUP):  # what all tasks have, last
            title, users = headings[name], _users(cls, entries[name])[1]
            if name in added or users is None:
                continue
            if title not in groups:
                groups[title] = parser.add_argument_group(title)
            _add_setting(groups[title], entries[name], getattr(defaults, name), users, with_choices=len(classes) == 1)
            added.add(name)


def _heading(cls: type[RunConfig], name: str) -> str:
    """The heading of a setting: what its option names, else that of the most basic class that has the setting."""
    having = [part for part in cls.__mro__[:-1] if name in part.__annotations__]
    named = [entry.metadata["group"] for part in having for entry in fields(part) if entry.name == name]
    return next((group for group in named if group), str(having[-1].__dict__.get("GROUP", "the task")))


def _choices(cls: type[RunConfig], name: str) -> tuple[str, ...]:
    return next(choices_of(entry) for entry in fields(cls) if entry.name == name)


def _users(cls: type[RunConfig], entry: Field[Any]) -> tuple[str, tuple[str, ...] | None]:
    """``"model"`` or ``"task"``, and the models or tasks of ``cls`` that use the setting.

    () where all do, None where none does, because it is of other tasks that share a class with these.
    """
    found = False
    for kind in ("model", "task"):
        choices = _choices(cls, kind)
        users = tuple(choice for choice in choices if choice in only_with(entry))
        found = found or bool(users)
        if users and users != choices:
            return kind, users
    return "task", () if found or not only_with(entry) else None


def _add_setting(
    group: argparse._ArgumentGroup, entry: Field[Any], default: Any, users: tuple[str, ...], with_choices: bool
) -> None:
    about = str(entry.metadata["about"]).replace("%", "%%")
    if users:
        about = f"{', '.join(users)}: {about}"
    if default is not None:
        about = f"{about} (default: {default})"
    # An option that is left out stays out of the result, so that --resume can tell it from one with its default.
    if isinstance(default, bool):
        group.add_argument(
            flag(entry.name), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about
        )
    else:  # among several tasks the choices differ; the settings check them later
        choices = choices_of(entry) or None if with_choices else None
        kind = entry.metadata["kind"]
        group.add_argument(flag(entry.name), type=kind, choices=choices, default=argparse.SUPPRESS, help=about)


def add_episodes(parser: argparse.ArgumentParser) -> None:
    """Add ``--episodes``, also called ``--sequences``: how many to evaluate on."""
    about = f"episodes, or sequences of each size, to evaluate on (default: {EPISODES})"
    parser.add_argument("--episodes", "--sequences", type=int, default=EPISODES, help=about)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by their names."""
    names = {entry.name for cls in config_classes().values() for entry in fields(cls)}
    settings = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if settings.get("data") is not None:
        settings["data"] = os.path.abspath(settings["data"])  # a run may resume from another folder
    return settings


def check_apply(cls: type[RunConfig], settings: dict[str, Any]) -> None:
    """Raises ``CommandError`` for the first of ``settings`` that ``cls`` does not have."""
    for name in settings:
        if name not in {entry.name for entry in fields(cls)}:
            raise CommandError(f"{flag(name)} does not apply to {settings.get('task', 'this run')}")


def check_used(cls: type[RunConfig], settings: dict[str, Any]) -> None:
    """Raises ``CommandError`` for the first of ``settings`` that has no effect with the chosen model or task."""
    chosen = {"task": cls().task, "model": cls().model} | settings
    for entry in fields(cls):
        kind, users = _users(cls, entry)
        if entry.name in settings and users is None:
            raise CommandError(f"{flag(entry.name)} does not apply to {chosen['task']}")
        if entry.name in settings and users and chosen[kind] in _choices(cls, kind) and chosen[kind] not in users:
            raise CommandError(f"{flag(entry.name)} does not apply to {chosen[kind]}, only to {', '.join(users)}")


def with_recipe(cls: type[RunConfig], settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` of a new run, before which stand those of its recipe that have an effect with its model and task."""
    recipe = cls.RECIPES.get(settings.get("recipe", getattr(cls(), "recipe", "")), {})
    chosen = {"task": cls().task, "model": cls().model} | settings
    applying = {}
    for entry in fields(cls):
        kind, users = _users(cls, entry)
        if entry.name in recipe and users is not None and (not users or chosen[kind] in users):
            applying[entry.name] = recipe[entry.name]
    return applying | settings


def check_episodes(episodes: int) -> None:
    """Raises ``CommandError`` for too few episodes to evaluate on, and warns where they are few."""
    if episodes < 2:
        raise CommandError(f"--episodes: got {episodes}, need at least 2")
    if episodes < EPISODES:
        print(f"warning: {episodes} episodes are too few to report; the interval is wide", file=sys.stderr)


def check_file(option: str, file: Path | None) -> None:
    """Raises ``CommandError`` where ``file`` cannot be written: that is known before hours of work.

    It may replace a regular file, and neither a link nor a device, whose names others rely on.
    """
    if file is None:
        return
    if file.is_symlink():
        raise CommandError(f"--{option}: got {file}, a link, need a regular file")
    if file.exists() and not file.is_file():
        raise CommandError(f"--{option}: got {file}, need a regular file")
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--{option}: got {file}, need a file in a folder that can be written to")


EVALUATION_MODULES = ("matplotlib", "numpy", "PIL")
PACKAGES = {"PIL": "pillow"}  # of modules that have another name
TRAINING_MODULES = ("tqdm", "tensorboard", *EVALUATION_MODULES)


def require(modules: Sequence[str]) -> None:
    """Raises ``CommandError`` that names the ``modules`` that are not installed, and the command that installs them."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        packages = (PACKAGES.get(module, module) for module in missing)
        raise CommandError(f"needs {', '.join(missing)}: pip install {' '.join(packages)}")
