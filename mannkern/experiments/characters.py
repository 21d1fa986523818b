"""What the experiments on drawn characters share: the settings of their data, and how it is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mannkern.tasks import CharacterSplit, glyphs, omniglot
from mannkern.tasks.characters.omniglot import SPLITS
from mannkern.tasks.characters.pixels import average_area
from mannkern.training.config import RunConfig, option
from mannkern.training.errors import CommandError, is_full

SIDE = 20  # pixels of a drawing that a model sees
PIXELS = SIDE**2
OMNIGLOT = ("omniglot", "few-shot-omniglot", "autoencoder-omniglot")


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


def load_split(config: DrawingConfig, original: bool = False) -> CharacterSplit:
    """The training and the unseen classes of ``config.task``, with ``original`` at Omniglot's 105 x 105 pixels.

    Raises ``CommandError`` where Omniglot is not there.
    """
    if not config.omniglot:
        return glyphs.load()
    if config.data is None:
        raise CommandError(f"{config.task} needs its folder: --data FOLDER")
    try:
        return omniglot.load(config.data, split=config.split, original=original)
    except (OSError, ValueError, ImportError) as error:
        if is_full(error):  # of the cache
            raise
        raise CommandError(f"cannot read Omniglot from {config.data}: {error}") from error


def drawings_of(name: str, images: Tensor, config: CharacterConfig) -> Tensor:
    """Drawings as a user has them, uint8 or floating point up to 1 -> float32 in [0, 255], of the model's size.

    Larger square ones are reduced, as those of the data are. Raises ``ValueError`` or ``TypeError`` that begins with
    ``name``.
    """
    if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: got {got}, need a tensor of torch.uint8 or floating point")
    shape = tuple(images.shape)
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] < SIDE:
        raise ValueError(f"{name}: got shape {shape}, need (drawings, {SIDE}, {SIDE}), or larger squares")
    pixels = images.cpu().float() * (1 if images.dtype == torch.uint8 else 255)
    if not bool(((pixels >= 0) & (pixels <= 255)).all()):
        raise ValueError(f"{name}: got values out of range, need 0 to 1, full ink")
    return pixels if shape[1] == SIDE else average_area(pixels, SIDE)


def check_support(support: Tensor, labels: Tensor, classes: int) -> None:
    """Raises ``TypeError`` or ``ValueError`` for ``labels`` that are no classes of the drawings ``support``."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels: got {got}, need a tensor of torch.int64")
    if labels.shape != support.shape[:1]:
        raise ValueError(f"labels: got shape {tuple(labels.shape)}, need ({len(support)},) as in support")
    if not len(labels):
        raise ValueError("support: got no drawings, need at least one")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels: got {int(labels.min())} to {int(labels.max())}, need 0 to {classes - 1}")
