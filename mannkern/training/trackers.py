"""Services that a run also sends its numbers to, if its user has installed one: wandb or trackio."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mannkern.training.errors import CommandError

NO_TRACKER = "none"
TRACKERS = ("wandb", "trackio")  # modules with the same init, log and finish
PROJECT = "mannkern"


def check_tracker(name: str) -> None:
    """Raises ``CommandError`` where the service that ``--log`` names is not installed."""
    if name != NO_TRACKER and importlib.util.find_spec(name) is None:
        raise CommandError(f"--log {name}: {name} is not installed: pip install {name}")


class Tracker:
    """A run of the service ``name``, under the name of the folder ``run``. A resumed run is another one there."""

    def __init__(self, name: str, run: Path, settings: dict[str, Any]) -> None:
        self.run = None
        if name != NO_TRACKER:
            module = importlib.import_module(name)
            self.run = module.init(project=PROJECT, name=run.resolve().name, config=settings)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers of a step."""
        if self.run is not None:
            self.run.log(dict(values), step=step)

    def finish(self) -> None:
        """Send what is left."""
        if self.run is not None:
            self.run.finish()
