"""Everything that docs/results.md reports, again: ``python -m bench.science --data DATA`` (``make reproduce``).

It carries out the plan in its order, each run where it stopped, and writes the page. Ctrl-C stops and saves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.science.page import write_page
from bench.science.plan import Planned, plan
from bench.science.quick import compare
from bench.science.runner import carry_out, collect, evaluate_again, is_finished
from mannkern.benchmark.machine import ROOT
from mannkern.commands.exit_code import exit_code
from mannkern.commands.freed_memory import keep_freed_memory

RESULTS = ROOT / "bench" / "results" / "science"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.science", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/omniglot", help="folder of Omniglot")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "science", help="folder that the runs are kept in")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results, one JSON file a run")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="the runs whose names contain TEXT, as --list has them"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--list", action="store_true", help="print the plan with its minutes, and stop")
    parser.add_argument(
        "--page", action="store_true", help="write docs/results.md and its pictures from the results, and stop"
    )
    parser.add_argument(
        "--collect", action="store_true", help="train nothing: write the results of runs as far as they are"
    )
    parser.add_argument(
        "--again", action="store_true", help="train nothing: evaluate finished runs anew, whose folders are there"
    )
    parser.add_argument("--quick", action="store_true", help="ten minutes: short runs, beside the spread that ours had")
    return parser.parse_args(given)


def chosen(args: argparse.Namespace) -> list[Planned]:
    """The runs of the plan that the command line asks for."""
    if args.quick:
        return [x for x in plan() if x.study == "quick" and x.seed == 0 and args.only in x.name]
    return [planned for planned in plan() if args.only in planned.name]


def main(given: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a signal stopped a run."""
    args = arguments(given)
    todo = chosen(args)
    if args.page:
        write_page(args.results, ROOT / "docs" / "results.md")
        return 0
    if args.collect:
        print(*(planned.name for planned in todo if collect(planned, args.runs, args.results)), sep="\n")
        return 0
    if args.again:
        done = (x.name for x in todo if evaluate_again(x, args.runs, args.results, args.data, args.threads))
        print(*done, sep="\n")
        return 0
    results = args.runs / "quick-results" if args.quick else args.results
    for planned in todo:
        state = "done" if is_finished(results / f"{planned.name}.json") else f"{planned.minutes:g} minutes"
        print(f"{planned.name}: {state}", flush=True)
        if not args.list and not carry_out(
            planned, args.runs / "quick" if args.quick else args.runs, results, args.data, args.threads
        ):
            print("Stopped and saved. The same command continues.")
            return 1
    if args.list:
        return 0
    if args.quick:
        print(compare(results, args.results))
    else:
        write_page(args.results, ROOT / "docs" / "results.md")
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(exit_code("bench.science", main))
