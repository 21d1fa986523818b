"""``python -m mannkern``: the command line. Each subcommand is a file in ``mannkern/commands``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import mannkern
from mannkern.commands.bench import add_bench
from mannkern.commands.completion import add_completion
from mannkern.commands.evaluate import add_evaluate
from mannkern.commands.exit_code import exit_code
from mannkern.commands.export import add_export
from mannkern.commands.freed_memory import keep_freed_memory
from mannkern.commands.parser import Parser
from mannkern.commands.table import add_table
from mannkern.commands.train import add_train
from mannkern.commands.verify import add_verify
from mannkern.training.processes import leave, said_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code, see ``exit_code``."""

    def command() -> int:
        about = "Train, evaluate and verify memory-augmented neural networks with fused memory operations."
        parser: argparse.ArgumentParser = Parser(prog="python -m mannkern", description=about)
        parser.add_argument("--version", action="version", version=f"mannkern {mannkern.__version__}")
        subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
        for add in (add_train, add_evaluate, add_export, add_table, add_verify, add_bench):
            add(subcommands)
        add_completion(subcommands, parser)
        with said_once():
            args = parser.parse_args(arguments)
        return int(args.function(args))

    return exit_code("mannkern", command)


def command_line() -> int:
    """``main`` in a process of its own, whose malloc is first told to keep freed memory."""
    keep_freed_memory()
    try:
        code = main()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1)
        raise
    leave(code)
    return code


if __name__ == "__main__":
    sys.exit(command_line())
