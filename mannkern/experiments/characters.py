"""What the experiments on drawn characters share: the settings of their data, and how it is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mannkern.tasks import CharacterSplit, glyphs, omniglot
from mannkern.tasks.characters.image_set import digest
from mannkern.tasks.characters.omniglot import SPLITS
from mannkern.tasks.characters.pixels import average_area
from mannkern.tasks.characters.sampler import MAX_SHIFT
from mannkern.tasks.image_folder import ImageSplit
from mannkern.training.config import RunConfig, option
from mannkern.training.errors import CommandError, is_full

SIDE = 20  # pixels of a drawing that a model sees
OMNIGLOT = ("omniglot", "few-shot-omniglot", "autoencoder-omniglot", "zero-shot-omniglot", "families-omniglot")


@dataclass(frozen=True)
class DrawingConfig(RunConfig):
    """Settings of tasks on drawn characters, from Omniglot or of procedural glyphs."""

    data: str | None = option(
        None, "folder of Omniglot, unpacked or as its zip files; required", kind=str, only=OMNIGLOT
    )
    split: str = option(
        "paper",
        "which classes train: 1200 at random (paper), 1200 drawn otherwise (other), the first 1200 in sorted order "
        "(sorted), or those of the official alphabets (alphabets)",
        choices=SPLITS,
        only=OMNIGLOT,
    )
    augment: bool = option(True, "shift and rotate training drawings at random")
    rotate_classes: bool = option(True, "quarter turns of training classes are new classes")

    GROUP: ClassVar[str] = "drawings"

    @property
    def drawing_side(self) -> int:
        """What drawings of characters are reduced to."""
        return SIDE

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image that a model sees: (height, width), or (3, height, width)."""
        return self.drawing_side, self.drawing_side

    @property
    def pixels(self) -> int:
        """The numbers of an image that a model sees."""
        return math.prod(self.image_shape)

    @property
    def channels_of_image(self) -> int:
        """1 of a grey image, 3 of one in colour."""
        return self.image_shape[0] if len(self.image_shape) == 3 else 1

    @property
    def side(self) -> int | None:
        """What samplers reduce images to; None where images have their size already."""
        return self.drawing_side

    @property
    def max_shift(self) -> float:
        """The largest shift of an augmented image, in pixels of the data."""
        return MAX_SHIFT

    def read_split(self, original: bool) -> CharacterSplit | ImageSplit:
        """The training and the unseen classes, see ``load_split``. Raises OSError, ValueError and ImportError too."""
        if not self.omniglot:
            return glyphs.load()
        if self.data is None:
            raise CommandError(f"{self.task} needs its folder: --data FOLDER")
        return omniglot.load(self.data, split=self.split, original=original, side=self.drawing_side)

    def read_files(self, paths: Sequence[str | os.PathLike[str]]) -> Tensor:
        """Image files as the pixels (n, ...) uint8 that a model sees. Raises ``TypeError`` where it sees no files."""
        raise TypeError(f"images: got paths, need tensors for a model of {self.task}")

    def as_read(self, pixels: Tensor) -> Tensor:
        """Pixels [0, 255] of a user's own as ``read_split`` would have read them."""
        return pixels

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


def check_classes(classes: int) -> None:
    """Raises ``CommandError`` for episodes of one class, whose every answer is right."""
    if classes < 2:
        raise CommandError(f"--classes: got {classes}, need at least 2, else every answer is right")


@dataclass(frozen=True)
class CharacterConfig(DrawingConfig):
    """Settings of tasks whose episodes are made of drawn characters."""

    classes: int = option(5, "classes in an episode")

    GROUP: ClassVar[str] = "episodes"


def load_characters(config: DrawingConfig, original: bool = False) -> CharacterSplit:
    """As ``load_split``, of a task whose images are drawings of characters."""
    split = load_split(config, original)
    assert isinstance(split, CharacterSplit)  # the tasks of a user's own images have settings of their own
    return split


def load_split(config: DrawingConfig, original: bool = False) -> CharacterSplit | ImageSplit:
    """The training and the unseen classes of ``config.task``, with ``original`` at Omniglot's 105 x 105 pixels.

    Raises ``CommandError`` where the data are not there.
    """
    try:
        return config.read_split(original)
    except (OSError, ValueError, ImportError) as error:
        if is_full(error):  # of the cache
            raise
        what = "Omniglot" if config.omniglot else "images"
        raise CommandError(f"cannot read {what} from {config.data}: {error}") from error


class OfSplit:
    """What the experiments on a split of classes share."""

    config: DrawingConfig
    split: CharacterSplit | ImageSplit

    def data_digest(self) -> str | None:
        """SHA-256 of the images of both parts; None where they are no files of the user's."""
        return None if self.config.data is None else digest((self.split.train, self.split.test))


def drawings_of(name: str, images: Tensor | Sequence[str | os.PathLike[str]], config: CharacterConfig) -> Tensor:
    """Drawings as a user has them, uint8 or floating point up to 1 -> float32 in [0, 255], of the model's size.

    Larger square ones are reduced, as those of the data are. Models of images also take paths. Raises ``ValueError`` or
    ``TypeError`` that begins with ``name``.
    """
    if isinstance(images, (list, tuple)) and images and all(isinstance(x, (str, os.PathLike)) for x in images):
        try:
            return config.read_files(images).float()
        except (OSError, ValueError, TypeError) as error:
            raise type(error)(f"{name}: {error}") from None
    if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: got {got}, need a tensor of torch.uint8 or floating point")
    shape, need = tuple(images.shape), config.image_shape
    side = config.side
    larger = side is not None and len(shape) == 3 and shape[1] == shape[2] > side
    if shape[1:] != need and not larger:
        also = "" if side is None else ", or larger squares"
        raise ValueError(f"{name}: got shape {shape}, need (n, {', '.join(map(str, need))}){also}")
    pixels = images.cpu().float() * (1 if images.dtype == torch.uint8 else 255)
    if not bool(((pixels >= 0) & (pixels <= 255)).all()):
        least, most = images.aminmax()
        got, remedy = f"{float(least):.4g} to {float(most):.4g}", "divide by 255 or pass torch.uint8"
        raise ValueError(f"{name}: got {got}, need 0 to 1, full ink; {remedy}")
    if side is not None and larger:
        pixels = average_area(pixels, side)
    return config.as_read(pixels)


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
