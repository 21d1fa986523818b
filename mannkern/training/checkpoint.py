"""The files of a run that training resumes from. Each is whole at every moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mannkern.files import write_atomically, write_json
from mannkern.training.config import RunConfig, current_names
from mannkern.training.errors import CommandError

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.json"


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) as the checkpoint of ``run``, atomically."""
    write_atomically(run / CHECKPOINT, lambda file: torch.save(state, file))


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The checkpoint of ``run`` on the CPU, or None before the first one. It runs no code from the file.

    Raises ``CommandError`` where the file is not a checkpoint.
    """
    path = run / CHECKPOINT
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged bytes make torch.load raise nearly anything
        raise CommandError(f"{path} is damaged or not a checkpoint") from error
    return current_names(state)


def save_config(run: Path, config: RunConfig) -> None:
    """Write the settings of ``run`` into it."""
    write_json(run / CONFIG, config.to_dict())


def read_config(run: Path) -> dict[str, Any]:
    """The settings of ``run`` as its file has them. Raises ``CommandError`` where the folder is no run."""
    try:
        return dict(json.loads((run / CONFIG).read_text()))
    except FileNotFoundError:
        raise CommandError(f"no run at {run}: it has no {CONFIG}") from None
    except (ValueError, TypeError, NotADirectoryError) as error:
        raise CommandError(f"no run at {run}: {error}") from None
