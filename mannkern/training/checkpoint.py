"""The files of a run that training resumes from: each is whole at every moment, and two checkpoints are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mannkern.files import load_tensors, save_tensors, write_atomically, write_json
from mannkern.training.config import RunConfig, current_names
from mannkern.training.errors import CommandError
from mannkern.training.exported import SUFFIX, exported_settings, exported_state, is_exported

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
CONFIG = "config.json"
MOST_STEPS = 1 << 53
MOST_BYTES = 1 << 20  # of config.json, which takes about 1 kB


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) as the checkpoint of ``run``, atomically.

    The checkpoint so far becomes the one before, unless it is damaged.
    """
    whole = _is_whole(run / CHECKPOINT)
    write_atomically(
        run / CHECKPOINT, lambda file: save_tensors(state, file), previous=run / PREVIOUS if whole else None
    )


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The checkpoint of ``run`` on the CPU, or None before the first one. It runs no code from the file.

    ``run`` is a folder, or the file of an exported model, which has the parameters and the step alone.

    Where the newest is damaged, this says so on stderr and takes the one before. Raises ``CommandError`` where that one
    is damaged too, or is not there.
    """
    if is_exported(run):
        return exported_state(run)
    damages = []
    for name in (CHECKPOINT, PREVIOUS):
        try:
            state = load_tensors(run / name)
            step = state.get("step") if isinstance(state, dict) else None
            if not isinstance(step, int) or step >= MOST_STEPS:
                raise ValueError(f"{run / name}: got another file, need a checkpoint")
        except FileNotFoundError:
            continue
        except ValueError as error:
            damages.append(str(error))
            continue
        if damages:
            print(f"mannkern: {damages[0]}; going on from {run / name}, of step {step:,}", file=sys.stderr)
        return current_names(state)
    if damages:
        raise CommandError(f"damaged or not a checkpoint: {'; '.join(damages)}")
    return None


def _is_whole(path: Path) -> bool:
    try:
        load_tensors(path)
    except (ValueError, FileNotFoundError):
        return False
    return True


def save_config(run: Path, config: RunConfig) -> None:
    """Write the settings of ``run`` into it."""
    write_json(run / CONFIG, config.to_dict())


def read_config(run: Path) -> dict[str, Any]:
    """The settings of ``run`` as its file has them. Raises ``CommandError`` where the folder is no run."""
    if is_exported(run):
        return exported_settings(run)
    path = run / CONFIG
    try:
        if path.stat().st_size > MOST_BYTES or not path.is_file():
            raise CommandError(f"no run at {run}: {path} is no file of settings")
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise CommandError(f"no run at {run}: it has no {CONFIG}") from None
    except NotADirectoryError:
        need = f"the folder of a run, or a file of {SUFFIX} that export wrote"
        raise CommandError(f"no run at {run}: it is no folder; need {need}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path}: got damaged settings ({error}), need the JSON that train wrote") from None
    if not isinstance(values, dict):
        raise CommandError(f"{path}: got no settings, need the JSON that train wrote")
    return values
