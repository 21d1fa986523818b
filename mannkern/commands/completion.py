"""The subcommand ``completion``: prints a script with which a shell completes the commands and their options."""

from __future__ import annotations

import argparse
from functools import partial

from mannkern.commands.options import require

SHELLS = ("bash", "zsh", "tcsh")


def add_completion(
    subcommands: argparse._SubParsersAction[argparse.ArgumentParser], parser: argparse.ArgumentParser
) -> None:
    """Add ``completion`` to the command line of ``parser``."""
    completion = subcommands.add_parser(
        "completion",
        help="print what lets a shell complete commands and options",
        description="Prints a script for the command mannkern. For bash: "
        'eval "$(mannkern completion bash)" in ~/.bashrc. For zsh: mannkern completion zsh > a file _mannkern in a '
        "folder of $fpath. Needs shtab: pip install mannkern[terminal]",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(function=partial(run_completion, parser))


def run_completion(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Print the script."""
    require(("shtab",), "terminal")
    import shtab

    parser.prog = "mannkern"
    print(shtab.complete(parser, args.shell))
    return 0
