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

from .config import CHANGEABLE, CharacterConfig, RecurrentConfig, RunConfig, flag
from .errors import CommandError
from .experiment import CONFIGS
from .few_shot_config import FewShotConfig
from .meta_memory_config import SinusoidConfig
from .options import DEFAULT_TASK, EPISODES, TaskHelp, add_episodes, add_settings, check_apply, check_used
from .sequence_config import SequenceConfig


def add_train(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line: it reads the settings of every task, and its help shows those of one."""
    parser = subcommands.add_parser("train", help="train a MANN, an NTM or another model on a task", add_help=False)
    add_settings(parser, *dict.fromkeys(CONFIGS.values()))
    parser.add_argument("-h", "--help", action=TaskHelp, nargs=0)
    parser.set_defaults(function=run_train)


def add_evaluate(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subcommands.add_parser(
        "evaluate",
        help="what trained runs of a task can do, side by side",
        description="Accuracy by instance on classes never seen in training (omniglot, glyphs), after a curriculum by "
        "the number of classes too; accuracy on queries of such classes (few-shot tasks); error by steps of "
        "adaptation (sinusoids); or bits per sequence by size, sizes beyond training among them (the other "
        "tasks): a column a run, with 95% intervals. Writes evaluation.json and pictures into each run. "
        "RUN/lstm, the baseline of train --baseline, comes along.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    add_episodes(parser)
    parser.add_argument("--data", help="folder of Omniglot, if it has moved since training")
    parser.add_argument("--device", help="default: the run's")
    parser.add_argument("--threads", type=int, help="default: the run's")
    parser.set_defaults(function=run_evaluate)


def run_train(args: argparse.Namespace) -> int:
    """Train, then evaluate and draw. Exit code 0, or 130 after Ctrl-C and 143 after SIGTERM, both with a checkpoint."""
    require("tqdm", "tensorboard", "matplotlib", "numpy", "PIL")
    check_episodes(args.episodes)
    given = settings_of(args)
    task = given.get("task", DEFAULT_TASK)
    run: Path = args.run or Path("runs", f"{task}-{given.get('memory', CONFIGS[task]().memory)}")
    if not args.resume:  # a run that goes on has its settings
        check_used(CONFIGS[task], given)
    config = resumed(run, given) if args.resume else fresh(run, given, args.overwrite)

    from .loop import train

    print(f"{config.memory.upper()} on {config.task}, in {run} (Ctrl-C stops and saves; --resume continues)")
    outcome = train(config, run)
    runs = [run]
    if isinstance(config, RecurrentConfig) and config.baseline and outcome.signal is None:
        lstm = replace(config, memory="lstm", steps=outcome.step, minutes=None, baseline=False)
        (run / "lstm").mkdir(exist_ok=True)
        write_config(run / "lstm", lstm)
        print(f"LSTM on the same data, in {run / 'lstm'}")
        outcome = train(lstm, run / "lstm")
        runs.append(run / "lstm")
    if outcome.signal is not None:
        print(f"Stopped at step {outcome.step:,}; saved. Continue: python -m mannkern train --run {run} --resume")
    if outcome.signal != signal.SIGTERM and not args.no_evaluate:
        print(f"Evaluating, {args.episodes:,} each (Ctrl-C skips it)", flush=True)
        _report(runs, [_load(path) for path in runs], args.episodes)
    return 0 if outcome.signal is None else 128 + outcome.signal


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by their names."""
    names = {entry.name for cls in CONFIGS.values() for entry in fields(cls)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if given.get("data") is not None:
        given["data"] = os.path.abspath(given["data"])  # a run resumes from any folder
    return given


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate runs and print them side by side."""
    require("matplotlib", "numpy", "PIL")
    check_episodes(args.episodes)
    given = {name: getattr(args, name) for name in ("data", "device", "threads") if getattr(args, name) is not None}
    runs = []
    for run in args.runs:
        for path in (run, run / "lstm"):
            if path not in runs and (path == run or path.is_dir()):
                runs.append(path)
    configs = [_changed(_load(run), given) for run in runs]
    if len({config.comparable for config in configs}) > 1:
        raise CommandError("runs differ in task or in the sizes of their data: their results do not compare")
    _report(runs, configs, args.episodes)
    return 0


def _report(runs: list[Path], configs: list[RunConfig], number: int) -> None:
    import torch

    report, pictures = _reporters(configs[0])
    results = []
    for run, config in zip(runs, configs, strict=True):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        results.append(report.evaluate(run, config, number))
    print("\n" + report.table(results) + "\n")
    for path in pictures.draw_all(results):
        print(path)


def _reporters(config: RunConfig) -> tuple[Any, Any]:
    """The modules that evaluate and that draw runs of this kind."""
    if isinstance(config, SequenceConfig):
        from . import sequence_pictures, sequence_report

        return sequence_report, sequence_pictures
    if isinstance(config, FewShotConfig):
        from . import few_shot_pictures, few_shot_report

        return few_shot_report, few_shot_pictures
    if isinstance(config, SinusoidConfig):
        from . import sinusoid_pictures, sinusoid_report

        return sinusoid_report, sinusoid_pictures
    from . import episode_pictures, episode_report

    return episode_report, episode_pictures


def fresh(run: Path, given: dict[str, Any], overwrite: bool) -> RunConfig:
    """A new run in ``run``, an empty folder or, with ``overwrite``, one that holds a run."""
    import torch

    cls = CONFIGS[given.get("task", DEFAULT_TASK)]
    check_apply(cls, given)
    try:
        config = cls(**given)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if isinstance(config, RecurrentConfig) and config.baseline and config.memory == "lstm":
        raise CommandError("--baseline trains an LSTM beside a memory; this run is an LSTM already")
    if isinstance(config, CharacterConfig) and config.omniglot:
        if config.data is None:
            raise CommandError(f"{config.task} needs its folder: --data FOLDER")
        if not os.path.isdir(config.data):
            raise CommandError(f"no Omniglot at {config.data}: no such folder")
    if run.exists() and not run.is_dir():
        raise CommandError(f"{run} is a file, not a folder")
    if run.exists() and any(run.iterdir()):
        if not (run / "config.json").exists():
            raise CommandError(f"{run} holds other files, no run; choose another folder with --run")
        if not overwrite and (run / "checkpoint.pt").exists():  # a run that never began is no loss
            raise CommandError(f"{run} holds a run: --resume continues it, --overwrite deletes it, --run names another")
        delete_run(run)
    run.mkdir(parents=True, exist_ok=True)
    # Sums depend on the number of threads, so the run keeps the one it began with.
    config = replace(config, threads=config.threads or torch.get_num_threads())
    write_config(run, config)
    return config


def resumed(run: Path, given: dict[str, Any]) -> RunConfig:
    """The run's settings, with what may change taken from ``given``; the rest of ``given`` has to agree."""
    config = _load(run)
    fixed = [entry for entry in fields(config) if entry.name in given and entry.name not in CHANGEABLE]
    for entry in fixed:
        if given[entry.name] != getattr(config, entry.name):
            raise CommandError(
                f"{run} was trained with {flag(entry)} {getattr(config, entry.name)}, not {given[entry.name]}; "
                "leave the option out to resume it, or begin another run with --run"
            )
    check_apply(type(config), given)
    config = _changed(config, {name: value for name, value in given.items() if name in CHANGEABLE})
    write_config(run, config)
    return config


def _changed(config: RunConfig, given: dict[str, Any]) -> RunConfig:
    check_apply(type(config), given)
    try:
        return replace(config, **given)
    except ValueError as error:
        raise CommandError(str(error)) from None


def delete_run(run: Path) -> None:
    """Delete what a run writes and nothing else in its folder; the settings last, so a kill can be repeated."""
    from .checkpoint import CHECKPOINT, CONFIG
    from .drawing import PICTURES
    from .metrics import EVENTS, METRICS
    from .tables import EVALUATION

    if (run / "lstm").is_dir():
        delete_run(run / "lstm")
    for name in (EVENTS, PICTURES):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (CHECKPOINT, METRICS, EVALUATION, CONFIG):
        (run / name).unlink(missing_ok=True)


def _load(run: Path) -> RunConfig:
    from .checkpoint import load_config

    return load_config(run)


def write_config(run: Path, config: RunConfig) -> None:
    """Write the settings of ``run`` into it."""
    from .checkpoint import CONFIG, write_json

    write_json(run / CONFIG, config.to_dict())


def check_episodes(episodes: int) -> None:
    """Raises ``CommandError`` for too few episodes to evaluate on, and warns of few."""
    if episodes < 2:
        raise CommandError(f"--episodes is {episodes}, needs to be at least 2")
    if episodes < EPISODES:
        print(f"warning: {episodes} episodes are too few to report; the interval is wide", file=sys.stderr)


def require(*modules: str) -> None:
    """Raises ``CommandError`` naming the modules that are not installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(f"needs {', '.join(missing)}: pip install mannkern[train]")
