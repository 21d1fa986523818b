"""What the experiments on drawn characters share: the settings of their data, and how it is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from mannkern.tasks import CharacterSplit, glyphs, omniglot
from mannkern.tasks.characters.omniglot import SPLITS
from mannkern.training.config import RunConfig, option
from mannkern.training.errors import CommandError, is_full

SIDE = 20
PIXELS = SIDE * SIDE  # of a drawing that a model sees
OMNIGLOT = ("omniglot", "few-shot-omniglot", "autoencoder-omniglot", "zero-shot-omniglot", "families-omniglot")


@dataclass(frozen=True)
class DrawingConfig(RunConfig):
    """Settings of tasks on drawn characters, from Omniglot or of procedural glyphs."""

    data: str | None = option(
        None, "folder of Omniglot, unpacked or as its zip files; required", kind=str, only=OMNIGLOT
    )
    split: str = option(
        "paper",
        "which classes train: 1200 at random (paper), or those of the official alphabets",
        choices=SPLITS,
        only=OMNIGLOT,
    )
    augment: bool = option(True, "shift and rotate training drawings at random (paper)")
    rotate_classes: bool = option(True, "quarter turns of training classes are new classes (paper)")

    GROUP: ClassVar[str] = "drawings"

    @property
    def omniglot(self) -> bool:
        """Whether the drawings come from Omniglot, which the user has to download."""
        return self.task in OMNIGLOT

    def check_new(self) -> None:
        super().check_new()
        if not self.omniglot:
            return
        if self.data is None:
            raise CommandError(f"{self.task} needs its folder: --data FOLDER")
        if not os.path.isdir(self.data):
            raise CommandError(f"no Omniglot at {self.data}: no such folder")


@dataclass(frozen=True)
class CharacterConfig(DrawingConfig):
    """Settings of tasks whose episodes are made of drawn characters."""

    classes: int = option(5, "classes in an episode (paper)")

    GROUP: ClassVar[str] = "episodes"


def load_split(config: DrawingConfig, original: bool = False, side: int = SIDE) -> CharacterSplit:
    """The training and the unseen classes of ``config.task``, with ``original`` at Omniglot's 105 x 105 pixels.

    side: pixels a side that Omniglot is reduced to otherwise

    Raises ``CommandError`` where Omniglot is not there.
    """
    if not config.omniglot:
        return glyphs.load()
    if config.data is None:
        raise CommandError(f"{config.task} needs its folder: --data FOLDER")
    try:
        return omniglot.load(config.data, split=config.split, original=original, side=side)
    except (OSError, ValueError, ImportError) as error:
        if is_full(error):  # of the cache
            raise
        raise CommandError(f"cannot read Omniglot from {config.data}: {error}") from error
