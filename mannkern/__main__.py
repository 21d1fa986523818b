"""``python -m mannkern``: one function adds each subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mannkern.training.commands import add_evaluate, add_train
from mannkern.training.errors import CommandError
from mannkern.training.freed_memory import keep_freed_memory
from mannkern.training.table_command import add_table
from mannkern.verification.commands import add_verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 2 for what cannot be done, said in one line; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m mannkern", description="Memory-augmented neural networks, fused.")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_train, add_evaluate, add_table, add_verify):
        add(subcommands)
    args = parser.parse_args(arguments)
    try:
        return int(args.function(args))
    except CommandError as error:
        print(f"mannkern: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmannkern: interrupted", file=sys.stderr)
        return 130


def command_line() -> int:
    """``main`` as a process of its own, which keeps freed memory."""
    keep_freed_memory()
    return main()


if __name__ == "__main__":
    sys.exit(command_line())
