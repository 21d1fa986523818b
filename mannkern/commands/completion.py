"""The subcommand ``completion``: prints a script with which a shell completes the commands and their options."""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial

from mannkern.commands.options import require
from mannkern.experiments.registry import config_classes
from mannkern.training.config import choices_of
from mannkern.training.exported import trained_models

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = ("run", "data", "runs_folder")  # options whose value is a folder


def add_completion(
    subcommands: argparse._SubParsersAction[argparse.ArgumentParser], parser: argparse.ArgumentParser
) -> None:
    """Add ``completion`` to the command line of ``parser``."""
    completion = subcommands.add_parser(
        "completion",
        help="print what lets a shell complete commands and options",
        description="Prints a script for the command mannkern. For bash: "
        'eval "$(mannkern completion bash)" in ~/.bashrc. For zsh: mannkern completion zsh > a file _mannkern in a '
        "folder of $fpath. Needs shtab: pip install shtab",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(function=partial(run_completion, parser))


def run_completion(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Print the script."""
    require(("shtab",))
    import shtab

    parser.prog = "mannkern"
    actions = [action for command in _commands(parser) for action in command._actions]
    for action in actions:
        if action.dest in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "RUN":  # also the name of a model that comes with mannkern
            action.complete = {"bash": "_mannkern_runs", "zsh": "_files -/"}  # type: ignore[attr-defined]
        elif action.choices is None and action.dest in (names := _names()):
            action.choices = names[action.dest]
    models = " ".join(trained_models())
    runs = f'_mannkern_runs() {{ compgen -d -- "$1"; compgen -W "{models}" -- "$1"; }}'
    print(shtab.complete(parser, args.shell, preamble=runs if args.shell == "bash" else ""))
    return 0


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the subcommands."""
    (subcommands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return list(subcommands.choices.values())


def _names() -> dict[str, tuple[str, ...]]:
    """The values of each setting that any task has a choice of; ``train`` has these checked by the task's settings."""
    names: dict[str, dict[str, None]] = {}
    for cls in config_classes().values():
        for entry in fields(cls):
            names.setdefault(entry.name, {}).update(dict.fromkeys(choices_of(entry)))
    return {name: tuple(choices) for name, choices in names.items() if choices}
