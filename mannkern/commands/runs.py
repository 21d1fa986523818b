"""The folder of a run: what is checked before anything is written, how a run begins in it, resumes and is deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mannkern.commands.options import check_apply, check_used, with_recipe
from mannkern.experiments.recurrent import BASELINE, check_baseline
from mannkern.experiments.registry import DEFAULT_TASK, config_classes, load_config
from mannkern.training.checkpoint import CHECKPOINT, CONFIG, PREVIOUS, save_config
from mannkern.training.config import CHANGEABLE, RunConfig
from mannkern.training.entries import check_entries, delete_entries, delete_leftovers, holds_anything
from mannkern.training.errors import CommandError
from mannkern.training.exported import is_exported
from mannkern.training.flags import command_error, flag
from mannkern.training.lock import LOCK, locked
from mannkern.training.runtime import learning_rate


def new_settings(settings: dict[str, Any]) -> RunConfig:
    """The settings of a new run, checked. Nothing is written."""
    cls = config_classes()[settings.get("task", DEFAULT_TASK)]
    check_apply(cls, settings)
    try:
        config = cls(**with_recipe(cls, settings))
    except ValueError as error:
        raise command_error(error, cls) from None
    config.check_new()
    config = config.completed()
    config = replace(config, lr=learning_rate(config))  # so that a default of a later version changes no run
    if config.lr_decay != "none":  # --steps may change when the run resumes, its learning rates may not
        fallen = int(config.falling_steps)
        if config.steps is not None and config.steps > fallen:
            raise CommandError(
                f"--decay-steps: got {fallen}, need at least --steps = {config.steps}: a learning rate that has fallen "
                "to 0 trains no further"
            )
        config = replace(config, decay_steps=fallen, steps=int(min(config.step_limit, fallen)))
    return config


def resumed_settings(run: Path, settings: dict[str, Any]) -> RunConfig:
    """The settings of ``run``, where those of ``settings`` that may change replace its own. Nothing is written.

    Raises ``CommandError`` where another one of ``settings`` differs from the run's.
    """
    config = load_config(run)
    if is_exported(run):
        raise CommandError(f"{run} is an exported model, which trains no further; --resume needs the folder of a run")
    fixed = [entry for entry in fields(config) if entry.name in settings and entry.name not in CHANGEABLE]
    for entry in fixed:
        asked, own = settings[entry.name], getattr(config, entry.name)
        if entry.name == "lr" and asked is not None:
            own = learning_rate(config)
        if asked != own:
            what = "task" if entry.name == "task" else flag(entry.name)
            otherwise = "leave the option out to resume it, or begin another run with --run"
            raise CommandError(f"{run} was trained with {what} {own}, not {asked}; {otherwise}")
    check_apply(type(config), settings)
    check_run(run)
    return changed(config, {name: value for name, value in settings.items() if name in CHANGEABLE})


def check_run(run: Path, links: bool = False) -> None:
    """Raises ``CommandError`` where a name of the run, or of its baseline, is a link or is taken by something else.

    Also where the run's own name is not UTF-8.
    """
    try:
        str(run).encode()
    except UnicodeEncodeError:
        need = "got a name that is not UTF-8, which TensorBoard cannot write; choose another --run"
        raise CommandError(f"{run}: {need}") from None
    check_entries(run, BASELINE, links=links)
    baseline = baseline_folder(run)
    if baseline.is_dir() and not baseline.is_symlink():
        check_entries(baseline, links=links)


def check_new_run(run: Path, overwrite: bool) -> None:
    """Raises ``CommandError`` where no new run can begin in ``run``. Nothing is written.

    It may be missing, or a folder that is empty or, with ``overwrite``, holds a run.
    """
    if run.exists() and not run.is_dir():
        raise CommandError(f"{run} is a file, not a folder")
    if holds_anything(run):
        if not (run / CONFIG).exists():
            raise CommandError(f"{run} holds other files, no run; choose another folder with --run")
        saved = (run / CHECKPOINT).exists() or (run / PREVIOUS).exists()
        if not overwrite and saved:  # without a checkpoint there is nothing to lose
            raise CommandError(f"{run} holds a run: --resume continues it, --overwrite deletes it, --run names another")
    check_run(run, links=overwrite)
    folder = next(path for path in (run, *run.absolute().parents) if path.exists())
    if not folder.is_dir():
        raise CommandError(f"--run {run}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--run {run}: {folder} cannot be written to")


@contextmanager
def begun(run: Path, config: RunConfig, overwrite: bool) -> Iterator[None]:
    """A context in which the new run stands in its folder, locked; what it replaces is deleted first.

    A folder that was made for it is removed again where its settings cannot be written.
    """
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        check_new_run(run, overwrite)
        try:
            delete_run(run)
            save_config(run, config)
        except OSError:
            if made:
                (run / LOCK).unlink(missing_ok=True)
                run.rmdir()
            raise
        yield


@contextmanager
def resumed(run: Path, config: RunConfig) -> Iterator[None]:
    """A context in which ``run`` is locked and has the settings ``config``. What a kill left behind is deleted."""
    with locked(run):
        delete_leftovers(run)
        save_config(run, config)
        yield


def new_run(run: Path, settings: dict[str, Any], overwrite: bool) -> RunConfig:
    """Begin a run in ``run``, an empty folder or, with ``overwrite``, one that holds a run. Returns its settings."""
    config = new_settings(settings)
    check_new_run(run, overwrite)
    with begun(run, config, overwrite):
        return config


def resumed_run(run: Path, settings: dict[str, Any]) -> RunConfig:
    """As ``resumed_settings``; the settings are also written into the run."""
    config = resumed_settings(run, settings)
    with resumed(run, config):
        return config


def changed(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """``config`` with ``settings`` in place of its own.

    Raises ``CommandError`` for an impossible value, and for one that has no effect with the run's task or model.
    """
    check_apply(type(config), settings)
    new = {name: value for name, value in settings.items() if value != getattr(config, name)}
    check_used(type(config), {"task": config.task, "model": config.model} | new)
    try:
        after = replace(config, **settings)
    except ValueError as error:
        raise command_error(error, config) from None
    check_baseline(after)
    if after.steps is None and after.falling_steps < after.step_limit:  # --minutes alone set no limit of steps
        after = replace(after, steps=int(after.falling_steps))
    if after.step_limit > (most := max(config.step_limit, after.falling_steps)):
        fallen = f"{most:g}, where the run's learning rate has fallen to 0"
        otherwise = "begin another run with more --steps and another --run"
        raise CommandError(f"--steps: got {after.step_limit:g}, need at most {fallen}; {otherwise}")
    return after


def baseline_folder(run: Path) -> Path:
    """The folder of the baseline that ``train --baseline`` trains beside ``run``."""
    return run / BASELINE


def delete_run(run: Path) -> None:
    """Delete what a run and its baseline write, and the baseline's folder; nothing else. Links are not followed."""
    baseline = baseline_folder(run)
    if baseline.is_symlink():
        baseline.unlink()
    elif baseline.is_dir():
        with locked(baseline):
            delete_entries(baseline)
        if not any(baseline.iterdir()):  # it may hold files of the user's
            baseline.rmdir()
    delete_entries(run)
