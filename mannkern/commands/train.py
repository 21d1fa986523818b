"""The subcommand ``train``: trains a model on a task, then evaluates and draws it."""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import mannkern
from mannkern.commands.evaluate import report
from mannkern.commands.options import (
    TRAINING_MODULES,
    TaskHelp,
    add_renamed,
    add_settings,
    check_episodes,
    check_used,
    require,
    settings_of,
)
from mannkern.commands.runs import (
    baseline_folder,
    begun,
    check_new_run,
    new_settings,
    resumed,
    resumed_settings,
)
from mannkern.experiments import registry
from mannkern.experiments.registry import DEFAULT_TASK, config_classes, load_config
from mannkern.streams import say
from mannkern.training import processes
from mannkern.training.again import resume
from mannkern.training.checkpoint import CONFIG
from mannkern.training.config import RunConfig
from mannkern.training.experiment import Experiment
from mannkern.training.flags import flag


def add_train(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line. It reads the settings of every task; its help shows those of one."""
    parser = subcommands.add_parser("train", help="train a MANN, an NTM or another model on a task", add_help=False)
    add_settings(parser, *dict.fromkeys(config_classes().values()))
    add_renamed(parser)
    parser.add_argument("-h", "--help", action=TaskHelp, nargs=0)
    parser.set_defaults(function=run_train)


def run_train(args: argparse.Namespace) -> int:
    """Train, then evaluate and draw.

    Exit code 0; or 130 after Ctrl-C, 143 after SIGTERM and 129 after the terminal was closed, all with a checkpoint.
    """
    with processes.joined():
        require(TRAINING_MODULES)
        if processes.rank() == 0:  # it may warn
            check_episodes(args.episodes)
        settings = settings_of(args)
        task = settings.get("task", DEFAULT_TASK)
        cls = config_classes()[task]
        run: Path = args.run or Path("runs", f"{task}-{settings.get('model', cls().model)}")
        if not args.resume:  # a run that resumes has settings of its own
            check_used(cls, settings)
        resumes = args.resume or processes.has_begun()  # torchrun repeats the command that began the run
        leads = processes.rank() == 0
        # as plain values: the class of a user's own task need not be one that pickle finds
        values = processes.share(_settings(run, settings, resumes, args.overwrite).to_dict() if leads else None)
        assert values is not None
        config = config_classes()[values["task"]].from_dict(values)
        alike = {"mannkern": mannkern.__version__, "torch": torch.__version__}
        # what a rank was told may not contradict rank 0; a run that resumes has settings of its own
        told = {} if processes.share(resumes) else settings
        processes.check_alike(alike | {flag(name): value for name, value in (values | told).items()})
        experiment = registry.prepare(config)
        if not leads:
            return _train(config, run, experiment, args)
        with resumed(run, config) if resumes else begun(run, config, args.overwrite):
            processes.note_begun()
            return _train(config, run, experiment, args)


def _settings(run: Path, settings: dict[str, Any], resumes: bool, overwrite: bool) -> RunConfig:
    """The settings of the run, checked. Nothing is written."""
    if resumes:
        return resumed_settings(run, settings)
    config = new_settings(settings)
    check_new_run(run, overwrite)
    return config


def _train(config: RunConfig, run: Path, experiment: Experiment, args: argparse.Namespace) -> int:
    say(f"{config.model.upper()} on {config.task}, in {run} (Ctrl-C stops and saves; --resume continues)")
    outcome = registry.train(config, run, experiment)
    runs = [run]
    baseline = config.baseline_at(outcome.step) if outcome.signal is None else None
    if baseline is not None:
        folder = baseline_folder(run)
        if "threads" not in vars(args):
            kept = _threads_of(folder, baseline) if processes.rank() == 0 else None
            baseline = replace(baseline, threads=processes.share(kept))
        if processes.rank() == 0:
            folder.mkdir(exist_ok=True)
            with resumed(folder, baseline):
                pass  # training takes the lock again
        say(f"{baseline.model.upper()} on the same data, in {folder}")
        outcome = registry.train(baseline, folder)
        runs.append(folder)
    if outcome.signal is not None:
        say(f"Stopped at step {outcome.step:,}; saved. Continue: {resume(run)}")
    if outcome.signal in (None, signal.SIGINT) and not args.no_evaluate and processes.rank() == 0:
        say(f"Evaluating, {args.episodes:,} each (Ctrl-C skips it)")
        report(runs, [load_config(path) for path in runs], args.episodes)
    return 0 if outcome.signal is None else 128 + outcome.signal


def _threads_of(folder: Path, config: RunConfig) -> int | None:
    """The threads that the run in ``folder`` began with, on which its sums depend; of a new one those of ``config``."""
    return load_config(folder).threads if (folder / CONFIG).exists() else config.threads
