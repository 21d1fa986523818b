"""Everything that docs/results.md reports, again: ``python -m bench.science --data DATA`` (``make reproduce``).

It carries out the plan in its order, each run where it stopped, and writes the page. Ctrl-C stops and saves. The
results and their page are in RUNS/results; only with ``--results bench/results/science`` are they the repository's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.science.page import write_page
from bench.science.plan import Planned, plan
from bench.science.quick import compare, is_of_another_commit, set_aside
from bench.science.runner import carry_out, collect, evaluate_again, is_finished
from mannkern.benchmark.machine import ROOT
from mannkern.commands.exit_code import exit_code
from mannkern.commands.freed_memory import keep_freed_memory
from mannkern.commands.parser import Parser
from mannkern.training.errors import CommandError

RESULTS = ROOT / "bench" / "results" / "science"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="python -m bench.science", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/omniglot", help="folder of Omniglot")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "science", help="folder that the runs are kept in")
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the results, one JSON file a run: by default RUNS/results, with "
        "--page, and to compare with --quick, the repository's",
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="the runs whose names contain TEXT, as --list has them"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--list", action="store_true", help="print the plan with its minutes, and stop")
    parser.add_argument(
        "--page", action="store_true", help="write the page and its pictures from the results, and stop"
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
    """The runs of the plan that the command line asks for. Raises ``CommandError`` where ``--only`` leaves none."""
    runs = [x for x in plan() if not args.quick or (x.study == "quick" and x.seed == 0)]
    found = [planned for planned in runs if args.only in planned.name]
    if not found:
        listed = "--quick --list" if args.quick else "--list"
        raise CommandError(f"--only: got {args.only!r}, need a part of a run's name; {listed} has them")
    return found


def folders(args: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of the runs and that of their results."""
    if args.page:
        return args.runs, args.results or RESULTS
    if args.quick:
        return args.runs / "quick", args.runs / "quick-results"
    return args.runs, args.results or args.runs / "results"


def write_page_of(results: Path) -> None:
    """Write docs/results.md from the repository's results, RESULTS/results.md from others, and say where it is.

    Raises ``CommandError`` where there are none.
    """
    if not any(any((results / study).glob("*.json")) for study in {planned.study for planned in plan()}):
        raise CommandError(f"--results: got {results}, need a folder with results, STUDY/ROW-SEED.json")
    published = results.resolve() == RESULTS.resolve()
    page = ROOT / "docs" / "results.md" if published else results / "results.md"
    write_page(results, page, published)
    print(f"The page is {page}")


def main(given: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a signal stopped a run."""
    args = arguments(given)
    todo = chosen(args)
    runs, results = folders(args)
    if args.page:
        write_page_of(results)
        return 0
    if args.collect:
        print(*(planned.name for planned in todo if collect(planned, runs, results)), sep="\n")
        return 0
    if args.again:
        done = (x.name for x in todo if evaluate_again(x, runs, results, args.data, args.threads))
        print(*done, sep="\n")
        return 0
    for planned in todo:
        file = results / f"{planned.name}.json"
        old = args.quick and is_of_another_commit(file)
        state = "done" if is_finished(file) and not old else f"{planned.minutes:g} minutes"
        print(f"{planned.name}: {state}{', its result is of another commit' if old else ''}", flush=True)
        if args.list:
            continue
        if old:
            set_aside(file, runs / planned.name)
        if not carry_out(planned, runs, results, args.data, args.threads):
            print("Stopped and saved. The same command continues.")
            return 1
    if args.list:
        return 0
    if args.quick:
        print(compare(results, args.results or RESULTS))
    else:
        write_page_of(results)
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(exit_code("bench.science", main))
