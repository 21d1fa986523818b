"""The command line that the benchmarks of the CPU share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(description: str | None, batch: list[int], repeats: int) -> argparse.Namespace:
    """--batch-size, --threads, --repeats and --json of a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="+", default=batch, metavar="B", help="episodes at a time")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="COUNT", help="threads")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="COUNT", help="rounds a median is taken of")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file that the results are written to")
    return parser.parse_args()
