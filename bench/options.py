"""The command line that the benchmarks of the CPU share, and its checks, which are those of ``mannkern bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mannkern.commands.bench import check_counts
from mannkern.commands.options import check_file
from mannkern.training.errors import CommandError


def parse(
    description: str | None, batch: list[int], repeats: int, threads: tuple[int, ...] = (1, 2)
) -> argparse.Namespace:
    """--batch-size, --threads, --repeats and --json of a benchmark; no --threads where ``threads`` is empty.

    A value that cannot be used stops the command before anything is timed or written.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="+", default=batch, metavar="B", help="episodes at a time")
    if threads:
        parser.add_argument("--threads", type=int, nargs="+", default=[*threads], metavar="COUNT", help="threads")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="COUNT", help="rounds a median is taken of")
    add_json(parser)
    options = parser.parse_args()
    counts = [("batch-size", B) for B in options.batch_size] + [("repeats", options.repeats)]
    counts += [("threads", count) for count in getattr(options, "threads", [])]
    check(parser, options, counts)
    return options


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="file that the results are written to")


def check(
    parser: argparse.ArgumentParser, options: argparse.Namespace, counts: list[tuple[str, int]] | None = None
) -> None:
    """Stop the command, with its usage, where a count or the file of --json cannot be used."""
    try:
        check_counts(counts or [])
        check_file("json", options.json)
    except CommandError as error:
        parser.error(str(error))
