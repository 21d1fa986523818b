"""Files that are whole at every moment: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from .config import RunConfig, TrainConfig
from .errors import CommandError
from .experiment import CONFIGS

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.json"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file beside ``path`` and rename it; a kill at any moment leaves the old file or the new."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself lives in the folder
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) as the checkpoint of ``run``, atomically."""
    write_atomically(run / CHECKPOINT, lambda file: torch.save(state, file))


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The checkpoint of ``run`` on the CPU, or None where there is none yet. Runs no code of the file.

    Raises ``CommandError`` where the file is not a checkpoint.
    """
    path = run / CHECKPOINT
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged bytes make torch.load raise nearly anything
        raise CommandError(f"{path} is damaged or not a checkpoint") from error
    return state


def load_config(run: Path) -> RunConfig:
    """The settings of ``run``, of its task's class. Raises ``CommandError`` where the folder is no run."""
    try:
        values = json.loads((run / CONFIG).read_text())
    except FileNotFoundError:
        raise CommandError(f"no run at {run}: it has no {CONFIG}") from None
    except (json.JSONDecodeError, NotADirectoryError) as error:
        raise CommandError(f"no run at {run}: {error}") from None
    try:
        return CONFIGS.get(values.get("task"), TrainConfig).from_dict(values)
    except ValueError as error:
        raise CommandError(f"{run / CONFIG}: {error}") from None
