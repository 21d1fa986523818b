"""The subcommand ``evaluate``: measures trained runs, prints them side by side and draws them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mannkern.commands.options import EVALUATION_MODULES, add_episodes, check_episodes, require
from mannkern.commands.runs import baseline_folder, changed, check_run
from mannkern.experiments.kind import Kind
from mannkern.experiments.registry import KINDS, kind_of, load_config
from mannkern.training.checkpoint import CONFIG
from mannkern.training.config import RunConfig
from mannkern.training.drawing import PICTURES
from mannkern.training.errors import CommandError, file_error, is_not_writable, one_line
from mannkern.training.exported import find_model, is_exported, trained_models
from mannkern.training.metrics import METRICS, is_irregular, log_pictures
from mannkern.training.processes import check_alone
from mannkern.training.runtime import use_threads


def add_evaluate(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evaluate`` to the command line."""
    measured = "; ".join(f"{kind.measures} ({', '.join(kind.tasks)})" for kind in KINDS)
    parser = subcommands.add_parser(
        "evaluate",
        help="measure trained runs of a task and compare them",
        description=f"Measures runs and prints a column for each, with 95% intervals: {measured}. Writes "
        "evaluation.json and pictures into each run that can be written to. The baseline of train --baseline, in "
        "RUN/lstm, is measured too. "
        f"Models that come with mannkern: {', '.join(trained_models()) or 'none'}.",
    )
    about = "folder of a run, file of an exported model, or name of a model that comes with mannkern"
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=about)
    add_episodes(parser)
    parser.add_argument("--data", help="folder of the data, if it is not where it was in training")
    parser.add_argument("--device", help="device to measure on (default: the run's)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: the run's)")
    parser.set_defaults(function=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate runs and print them side by side."""
    check_alone("evaluate")
    require(EVALUATION_MODULES)
    check_episodes(args.episodes)
    settings = {name: getattr(args, name) for name in ("data", "device", "threads") if getattr(args, name) is not None}
    runs = []
    for run in map(find_model, args.runs):
        for path in (run, baseline_folder(run)):
            if path not in runs and (path == run or (path / CONFIG).exists()):
                runs.append(path)
    configs = [changed(load_config(run), settings) for run in runs]
    for run in runs:
        if not is_exported(run):
            check_run(run)
    if len({config.comparable for config in configs}) > 1:
        raise CommandError("runs differ in task, in their data or in its sizes: their results do not compare")
    report(runs, configs, args.episodes)
    return 0


def report(runs: Sequence[Path], configs: Sequence[RunConfig], number: int) -> None:
    """Evaluate runs of one kind of experiment on ``number`` examples each, print, draw, and judge the first."""
    kind = kind_of(configs[0].task)
    results = []
    for run, config in zip(runs, configs, strict=True):
        use_threads(config)
        results.append(kind.evaluate(run, config, number))
    print("\n" + kind.table(results) + "\n")
    try:
        _draw(kind, [result for result in results if not is_exported(result.run) and os.access(result.run, os.W_OK)])
    except OSError as error:
        if not is_not_writable(error):
            raise
        print(one_line(f"warning: pictures are left out: {file_error(error)}"), file=sys.stderr)
    except (KeyError, TypeError, ValueError) as error:
        damaged = [result.run for result in results if is_irregular(result.run)]
        if not damaged:
            raise
        said = f"{damaged[0] / METRICS}: a line lacks numbers that others have ({error})"
        print(one_line(f"warning: pictures are left out: {said}"), file=sys.stderr)
    if kind.verdict is not None and not is_exported(runs[0]):
        print(kind.verdict(results[0]))


def _draw(kind: Kind, results: Sequence[Any]) -> None:
    """Draw into the folders of the runs, print the paths, and add the pictures to the runs' events."""
    paths = kind.draw(results) if results else []
    for path in paths:
        print(path)
    for result in results:
        log_pictures(result.run, [path for path in paths if path.is_relative_to(result.run / PICTURES)], result.step)
