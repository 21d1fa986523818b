"""The subcommands ``train`` and ``evaluate``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from .config import CHANGEABLE, TrainConfig, flag
from .errors import CommandError

EPISODES = 1000


def add_train(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    parser = subcommands.add_parser(
        "train",
        help="train a MANN (or an LSTM) on episodes",
        description="Train a MANN (or an LSTM) on episodes of Omniglot or of procedural glyphs, evaluate it, draw it. "
        "Defaults are the paper's (Santoro et al. 2016) or those of its published replications, as each option says.",
    )
    parser.add_argument("task", nargs="?", choices=("omniglot", "glyphs"), help=_about("task"))
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/TASK-MEMORY)")
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--resume", action="store_true", help="continue the run in that folder, with its own settings")
    exists.add_argument("--overwrite", action="store_true", help="delete the run in that folder first")
    parser.add_argument("--no-evaluate", action="store_true", help="neither evaluate nor draw at the end")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"episodes to evaluate on (default: {EPISODES})")
    for entry in fields(TrainConfig):
        if entry.name == "task":
            continue
        about = _about(entry.name)
        # Absent stays absent, so that --resume can tell what was asked for from what is default.
        if isinstance(entry.default, bool):
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag(entry), action=action, default=argparse.SUPPRESS, help=about)
        else:
            kind, choices = entry.metadata["kind"], entry.metadata["choices"] or None
            parser.add_argument(flag(entry), type=kind, choices=choices, default=argparse.SUPPRESS, help=about)
    parser.set_defaults(function=run_train)


def add_evaluate(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subcommands.add_parser(
        "evaluate",
        help="accuracy by instance of trained runs, side by side",
        description="Accuracy by instance on classes never seen in training, a column a run, with 95% intervals; "
        "writes evaluation.json and pictures into each run. RUN/lstm, the baseline of train --baseline, comes along.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"episodes to evaluate on (default: {EPISODES})")
    parser.add_argument("--data", help="folder of Omniglot, if it has moved since training")
    parser.add_argument("--device", help="default: the run's")
    parser.add_argument("--threads", type=int, help="default: the run's")
    parser.set_defaults(function=run_evaluate)


def run_train(args: argparse.Namespace) -> int:
    """Train, then evaluate and draw. Exit code 0, or 130 after Ctrl-C and 143 after SIGTERM, both with a checkpoint."""
    _require("tqdm", "tensorboard", "matplotlib", "numpy", "PIL")
    _check_episodes(args.episodes)
    names = {entry.name for entry in fields(TrainConfig)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if given.get("data") is not None:
        given["data"] = os.path.abspath(given["data"])  # a run resumes from any folder
    run: Path = args.run or Path("runs", f"{given.get('task', 'glyphs')}-{given.get('memory', 'mann')}")
    config = _resumed(run, given) if args.resume else _fresh(run, given, args.overwrite)

    from .loop import train

    print(f"{config.memory.upper()} on {config.task}, in {run} (Ctrl-C stops and saves; --resume continues)")
    outcome = train(config, run)
    runs = [run]
    if config.baseline and outcome.signal is None:
        lstm = replace(config, memory="lstm", steps=outcome.step, minutes=None, baseline=False)
        (run / "lstm").mkdir(exist_ok=True)
        _write_config(run / "lstm", lstm)
        print(f"LSTM on the same episodes, in {run / 'lstm'}")
        outcome = train(lstm, run / "lstm")
        runs.append(run / "lstm")
    if outcome.signal is not None:
        print(f"Stopped at step {outcome.step:,}; saved. Continue: python -m mannkern train --run {run} --resume")
    if outcome.signal != signal.SIGTERM and not args.no_evaluate:
        print(f"Evaluating on {args.episodes:,} episodes (Ctrl-C skips it)", flush=True)
        _report(runs, [_load(path) for path in runs], args.episodes)
    return 0 if outcome.signal is None else 128 + outcome.signal


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate runs and print them side by side."""
    _require("matplotlib", "numpy", "PIL")
    _check_episodes(args.episodes)
    given = {name: getattr(args, name) for name in ("data", "device", "threads") if getattr(args, name) is not None}
    runs = []
    for run in args.runs:
        for path in (run, run / "lstm"):
            if path not in runs and (path == run or path.is_dir()):
                runs.append(path)
    configs = [replace(_load(run), **given) for run in runs]
    shape = {(config.task, config.classes, config.length, config.split) for config in configs}
    if len(shape) > 1:
        raise CommandError("runs differ in task, classes, length or split: their accuracies do not compare")
    _report(runs, configs, args.episodes)
    return 0


def _report(runs: list[Path], configs: list[TrainConfig], episodes: int) -> None:
    import torch

    from .evaluation import evaluate, table
    from .pictures import draw_all

    results = []
    for run, config in zip(runs, configs, strict=True):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        results.append(evaluate(run, config, episodes))
    print("\n" + table(results) + "\n")
    for path in draw_all(results):
        print(path)


def _fresh(run: Path, given: dict[str, Any], overwrite: bool) -> TrainConfig:
    """A new run in ``run``, an empty folder or, with ``overwrite``, one that holds a run."""
    import torch

    try:
        config = TrainConfig(**given)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if config.baseline and config.memory == "lstm":
        raise CommandError("--baseline trains an LSTM beside a MANN; this run is an LSTM already")
    if config.task == "omniglot" and config.data is None:
        raise CommandError("omniglot needs its folder: --data FOLDER")
    if config.task == "omniglot" and not os.path.isdir(str(config.data)):
        raise CommandError(f"no Omniglot at {config.data}: no such folder")
    if run.exists() and not run.is_dir():
        raise CommandError(f"{run} is a file, not a folder")
    if run.exists() and any(run.iterdir()):
        if not (run / "config.json").exists():
            raise CommandError(f"{run} holds other files, no run; choose another folder with --run")
        if not overwrite and (run / "checkpoint.pt").exists():  # a run that never began is no loss
            raise CommandError(f"{run} holds a run: --resume continues it, --overwrite deletes it, --run names another")
        _delete(run)
    run.mkdir(parents=True, exist_ok=True)
    # Sums depend on the number of threads, so the run keeps the one it began with.
    config = replace(config, threads=config.threads or torch.get_num_threads())
    _write_config(run, config)
    return config


def _resumed(run: Path, given: dict[str, Any]) -> TrainConfig:
    """The run's settings, with what may change taken from ``given``; the rest of ``given`` has to agree."""
    config = _load(run)
    for entry in fields(TrainConfig):
        if entry.name in given and entry.name not in CHANGEABLE and given[entry.name] != getattr(config, entry.name):
            raise CommandError(
                f"{run} was trained with {flag(entry)} {getattr(config, entry.name)}, not {given[entry.name]}; "
                "leave the option out to resume it, or begin another run with --run"
            )
    try:
        config = replace(config, **{name: value for name, value in given.items() if name in CHANGEABLE})
    except ValueError as error:
        raise CommandError(str(error)) from None
    _write_config(run, config)
    return config


def _delete(run: Path) -> None:
    """Delete what a run writes and nothing else in its folder; the settings last, so a kill can be repeated."""
    from .checkpoint import CHECKPOINT, CONFIG
    from .evaluation import EVALUATION
    from .metrics import EVENTS, METRICS
    from .pictures import PICTURES

    if (run / "lstm").is_dir():
        _delete(run / "lstm")
    for name in (EVENTS, PICTURES):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (CHECKPOINT, METRICS, EVALUATION, CONFIG):
        (run / name).unlink(missing_ok=True)


def _load(run: Path) -> TrainConfig:
    from .checkpoint import load_config

    return load_config(run)


def _write_config(run: Path, config: TrainConfig) -> None:
    from .checkpoint import CONFIG, write_json

    write_json(run / CONFIG, config.to_dict())


def _about(name: str) -> str:
    """The help of a setting: what it is, then its default unless the text names one."""
    entry = next(entry for entry in fields(TrainConfig) if entry.name == name)
    about = str(entry.metadata["about"]).replace("%", "%%")
    return about if entry.default is None else f"{about} (default: {entry.default})"


def _check_episodes(episodes: int) -> None:
    if episodes < 2:
        raise CommandError(f"--episodes is {episodes}, needs to be at least 2")
    if episodes < EPISODES:
        print(f"warning: {episodes} episodes are too few to report; the interval is wide", file=sys.stderr)


def _require(*modules: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(f"needs {', '.join(missing)}: pip install mannkern[train]")
