"""The folder of a run: how a new run begins in it, an old one resumes, and how it is deleted."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mannkern.commands.options import check_apply, with_recipe
from mannkern.experiments.recurrent import BASELINE
from mannkern.experiments.registry import DEFAULT_TASK, config_classes, load_config
from mannkern.training.checkpoint import CHECKPOINT, CONFIG, save_config
from mannkern.training.config import CHANGEABLE, RunConfig, flag
from mannkern.training.drawing import PICTURES
from mannkern.training.errors import CommandError
from mannkern.training.metrics import EVENTS, METRICS
from mannkern.training.tables import EVALUATION


def new_run(run: Path, settings: dict[str, Any], overwrite: bool) -> RunConfig:
    """Begin a run in ``run``, an empty folder or, with ``overwrite``, one that holds a run. Returns its settings."""
    cls = config_classes()[settings.get("task", DEFAULT_TASK)]
    check_apply(cls, settings)
    try:
        config = cls(**with_recipe(cls, settings))
    except ValueError as error:
        raise CommandError(str(error)) from None
    config.check_new()
    if run.exists() and not run.is_dir():
        raise CommandError(f"{run} is a file, not a folder")
    if run.exists() and any(run.iterdir()):
        if not (run / CONFIG).exists():
            raise CommandError(f"{run} holds other files, no run; choose another folder with --run")
        if not overwrite and (run / CHECKPOINT).exists():  # without a checkpoint there is nothing to lose
            raise CommandError(f"{run} holds a run: --resume continues it, --overwrite deletes it, --run names another")
        delete_run(run)
    run.mkdir(parents=True, exist_ok=True)
    if config.lr_decay != "none":  # --steps may change when the run resumes, its learning rates may not
        config = replace(config, decay_steps=int(config.falling_steps))
    save_config(run, config)
    return config


def resumed_run(run: Path, settings: dict[str, Any]) -> RunConfig:
    """The settings of ``run``, where those of ``settings`` that may change replace its own.

    Raises ``CommandError`` where another one of ``settings`` differs from the run's.
    """
    config = load_config(run)
    fixed = [entry for entry in fields(config) if entry.name in settings and entry.name not in CHANGEABLE]
    for entry in fixed:
        if settings[entry.name] != getattr(config, entry.name):
            raise CommandError(
                f"{run} was trained with {flag(entry.name)} {getattr(config, entry.name)}, not {settings[entry.name]}; "
                "leave the option out to resume it, or begin another run with --run"
            )
    check_apply(type(config), settings)
    config = changed(config, {name: value for name, value in settings.items() if name in CHANGEABLE})
    save_config(run, config)
    return config


def changed(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """``config`` with ``settings`` in place of its own. Raises ``CommandError`` for an impossible value."""
    check_apply(type(config), settings)
    try:
        return replace(config, **settings)
    except ValueError as error:
        raise CommandError(str(error)) from None


def baseline_folder(run: Path) -> Path:
    """The folder of the baseline that ``train --baseline`` trains beside ``run``."""
    return run / BASELINE


def delete_run(run: Path) -> None:
    """Delete what a run writes and nothing else in its folder; the settings last, so that a kill can be repeated."""
    if baseline_folder(run).is_dir():
        delete_run(baseline_folder(run))
    for name in (EVENTS, PICTURES):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (CHECKPOINT, METRICS, EVALUATION, CONFIG):
        (run / name).unlink(missing_ok=True)
