"""``python -m mannkern``: the command line. Each subcommand is a file in ``mannkern/commands``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import mannkern
from mannkern.commands.bench import add_bench
from mannkern.commands.completion import add_completion
from mannkern.commands.evaluate import add_evaluate
from mannkern.commands.export import add_export
from mannkern.commands.freed_memory import keep_freed_memory
from mannkern.commands.parser import Parser
from mannkern.commands.table import add_table
from mannkern.commands.train import add_train
from mannkern.commands.verify import add_verify
from mannkern.training.errors import CommandError, file_error, is_full, is_out_of_memory, one_line
from mannkern.training.processes import leave, said_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code.

    After an error, which is one line on stderr, 2, or 1 where a disk is full; after Ctrl-C 130; 141 where nobody reads
    the output to its end.
    """
    _mend_streams()
    about = "Train, evaluate and verify memory-augmented neural networks with fused memory operations."
    parser: argparse.ArgumentParser = Parser(prog="python -m mannkern", description=about)
    parser.add_argument("--version", action="version", version=f"mannkern {mannkern.__version__}")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_train, add_evaluate, add_export, add_table, add_verify, add_bench):
        add(subcommands)
    add_completion(subcommands, parser)
    try:
        with said_once():
            args = parser.parse_args(arguments)
        return int(args.function(args))
    except CommandError as error:
        print(f"mannkern: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads the output, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed at the exit
        return 141  # what a shell says of SIGPIPE
    except OSError as error:
        print(f"mannkern: {one_line(file_error(error))}", file=sys.stderr)
        return 1 if is_full(error) else 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("mannkern: not enough memory; lower the batch size or the sizes of the model", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmannkern: interrupted", file=sys.stderr)
        return 130


def _mend_streams() -> None:
    """Let every print succeed: a closed stream is one that nobody reads, and a sign that the encoding lacks is "?"."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a notebook's stream has none, and needs none
    if reconfigure is not None:
        reconfigure(errors="replace")


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
