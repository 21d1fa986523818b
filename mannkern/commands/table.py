"""The subcommand ``table``: trains every row of the MANN paper's tables and prints them."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from mannkern.commands.options import (
    TRAINING_MODULES,
    add_episodes,
    add_groups,
    check_episodes,
    check_used,
    require,
    settings_of,
    with_recipe,
)
from mannkern.commands.runs import begun, check_new_run, new_settings, resumed, resumed_settings
from mannkern.experiments import one_shot, registry
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.rows import ROWS, TABLE, measure_rows, table, write_table
from mannkern.experiments.registry import DEFAULT_TASK
from mannkern.training.again import program
from mannkern.training.checkpoint import CHECKPOINT, CONFIG, load_checkpoint
from mannkern.training.drawing import PICTURES
from mannkern.training.errors import CommandError
from mannkern.training.lock import LOCK, locked
from mannkern.training.metrics import reached_goal
from mannkern.training.processes import check_alone

EMPTY = (LOCK, *ROWS)  # what a kill at the start leaves
VARIED = ("model", "controller")  # the rows differ in these
ELSEWHERE = ("task", "baseline", "curriculum", "curriculum_episodes", "shots")


def add_table(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``table`` to the command line."""
    parser = subcommands.add_parser(
        "table",
        help="train each row of the MANN paper's table and print it",
        description="Trains a feed-forward network, an LSTM, a MANN with either controller and one with the NTM's "
        "addressing, each in a folder of its own and as long as --minutes or --steps say. Then prints their accuracy "
        "by instance and that of the nearest neighbours in pixels, as in Table 1 of Santoro et al. (2016), or with "
        "--labels strings as in Table 2 (for 15 classes: --classes 15 --length 100), and writes "
        "table.json and a picture. The same command again continues where it was stopped; rows that are done are not "
        "trained again.",
    )
    parser.add_argument("task", nargs="?", choices=tuple(one_shot.KIND.tasks), help=f"default: {DEFAULT_TASK}")
    parser.add_argument("--run", type=Path, help="folder of the table (default: runs/table-TASK[-strings])")
    parser.add_argument("--overwrite", action="store_true", help="delete the rows in that folder first")
    add_episodes(parser)
    add_groups(parser, OneShotConfig, without=(*VARIED, *ELSEWHERE))
    parser.set_defaults(function=run_table)


def run_table(args: argparse.Namespace) -> int:
    """Train the rows that lack training, then measure and print all. Exit code 0, or 129, 130, 143 after a signal."""
    check_alone("table")
    require(TRAINING_MODULES)
    check_episodes(args.episodes)
    settings = settings_of(args)
    strings = "-strings" if settings.get("labels") == "strings" else ""
    root: Path = args.run or Path("runs", f"table-{settings.get('task', DEFAULT_TASK)}{strings}")
    configs, begun_rows = _rows(root, settings, args.overwrite)
    registry.prepare(configs["mann"])  # before anything is written
    root.mkdir(parents=True, exist_ok=True)
    with locked(root), ExitStack() as rows:
        if args.overwrite:
            _delete_table(root)
        for folder, config in configs.items():
            run = root / folder
            rows.enter_context(resumed(run, config) if folder in begun_rows else begun(run, config, overwrite=True))
        return _train(root, configs, args.episodes)


def _train(root: Path, configs: dict[str, OneShotConfig], episodes: int) -> int:
    for folder, config in configs.items():
        name, run = ROWS[folder][0], root / folder
        state = load_checkpoint(run)
        if state and (
            state["step"] >= config.step_limit
            or state["seconds"] >= config.second_limit
            or reached_goal(run, config, state["step"])
        ):
            print(f"{name}: trained already, {state['step']:,} steps")
            continue
        print(f"{name} on {config.task}, in {run} (Ctrl-C stops and saves; the same command continues)", flush=True)
        outcome = registry.train(config, run)
        if outcome.signal is not None:
            again = f"{program()} table {config.task} --run {shlex.quote(str(root))}"
            print(f"Stopped at step {outcome.step:,}; saved. Continue: {again}")
            return 128 + outcome.signal
    print(f"Evaluating, {episodes:,} each", flush=True)
    rows = measure_rows(root, configs, episodes)
    config = configs["mann"]
    print("\n" + table(config, rows) + "\n")
    for path in write_table(root, config, rows):
        print(path)
    return 0


def _delete_table(root: Path) -> None:
    """Delete the results, and links at the rows' names; ``begun`` deletes the rows themselves."""
    for name in (TABLE, PICTURES, *ROWS):
        path = root / name
        if path.is_symlink() or path.is_file():
            path.unlink()
    shutil.rmtree(root / PICTURES, ignore_errors=True)


def _rows(root: Path, settings: dict[str, Any], overwrite: bool) -> tuple[dict[str, OneShotConfig], list[str]]:
    """The settings of each row by its folder, and which rows have begun: these keep their own. Nothing is written."""
    if root.exists() and not root.is_dir():
        raise CommandError(f"{root} is a file, not a folder")
    links = [root / name for name in (TABLE, PICTURES, *ROWS) if (root / name).is_symlink()]
    if links and not overwrite:
        raise CommandError(f"{links[0]} is a link, which a table does not follow; remove it, or choose another --run")
    known = [folder for folder in ROWS if (root / folder / CONFIG).exists()]
    if not known and root.is_dir() and any((root / name).exists() for name in os.listdir(root) if name not in EMPTY):
        raise CommandError(f"{root} holds other files, no table; choose another folder with --run")
    begun_rows = [folder for folder in known if (root / folder / CHECKPOINT).exists() and not overwrite]
    first = begun_rows[0] if begun_rows else next(iter(ROWS))
    if begun_rows:
        base = resumed_settings(root / first, settings)
    else:  # the recipe's settings for a MANN, which the rows of other models ignore
        check_used(OneShotConfig, settings)
        base = new_settings(with_recipe(OneShotConfig, settings) | ROWS[first][1])
    if base.task not in one_shot.KIND.tasks:
        raise CommandError(f"{root / first} holds a run on {base.task}, no row of the table; choose another --run")
    configs: dict[str, OneShotConfig] = {}
    for folder, (_, row_settings) in ROWS.items():
        config = replace(cast(OneShotConfig, base), **row_settings, threads=settings.get("threads"))
        run = root / folder
        if folder in begun_rows:
            values = config.to_dict()
            if config.threads is None:  # a row keeps the number of threads that it began with
                del values["threads"]
            config = cast(OneShotConfig, resumed_settings(run, values))
        elif not run.is_symlink():
            check_new_run(run, overwrite=True)
        configs[folder] = config
    return configs, begun_rows
