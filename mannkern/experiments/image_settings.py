"""The settings of tasks on images of your own, and how they are read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from torch import Tensor

from mannkern.experiments.characters import CharacterConfig
from mannkern.tasks import image_folder
from mannkern.tasks.image_folder import ImageSplit
from mannkern.training.config import option
from mannkern.training.errors import CommandError

IMAGES = ("images", "few-shot-folder")
MOST_SIDE = 1024
SHIFT = 0.1  # largest shift of an augmented image, as a share of its shorter side: 2 pixels of 20

Settings = TypeVar("Settings", bound="ImageSettings")


@dataclass(frozen=True)
class ImageSettings(CharacterConfig):
    """Settings of tasks whose episodes are made of the images in a folder, a folder for each class."""

    image_size: str | None = option(
        None,
        "size to which images are scaled, HEIGHTxWIDTH or one number for squares (default: that of the images; 32 for "
        "the longer side of larger ones, 32x32 where they differ)",
        kind=str,
    )
    channels: int | None = option(None, "1: grey, 3: red, green and blue (default: as the images are)", kind=int)
    invert: bool = option(False, "for dark ink on light paper: paper becomes 0, as what lies outside of the frame")
    held_out: float = option(
        0.2, "share of the classes that validation and evaluation have; a folder with train and test is split already"
    )
    held_out_classes: str | None = option(
        None,
        "names of the classes that validation and evaluation have, with / between them (default: drawn when the run "
        "begins, and kept; without effect where a folder has train and test)",
        kind=str,
    )

    GROUP: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size is not None:
            _size(self.image_size)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"--channels: got {self.channels}, need 1 or 3")
        if not 0 < self.held_out < 1:
            raise ValueError(f"--held-out: got {self.held_out}, need a share above 0 and below 1")

    @property
    def image_shape(self) -> tuple[int, ...]:
        size = _size(self.image_size or str(image_folder.LONGEST))
        return (3, *size) if self.channels == 3 else size

    @property
    def side(self) -> None:
        return None

    @property
    def max_shift(self) -> float:
        return SHIFT * min(self.image_shape[-2:])

    @property
    def source(self) -> tuple[str, float | str]:
        """Which images there are, and which of them are held out: runs compare only where both are the same."""
        return os.path.realpath(self.data or ""), self.held_out_classes or self.held_out

    @property
    def _held_out_names(self) -> list[str] | None:
        return None if self.held_out_classes is None else self.held_out_classes.split("/")

    def check_new(self) -> None:
        super().check_new()
        if self.data is None:
            raise CommandError(
                f"{self.task} needs the folder of the images: --data FOLDER, with a folder for each class"
            )
        if not os.path.isdir(self.data):
            raise CommandError(f"--data: no such folder: {self.data}")

    def completed(self: Settings) -> Settings:
        """The size and the channels of the images, and the classes that are held out, where they are not given."""
        assert self.data is not None  # check_new
        size, channels = self.image_size, self.channels
        try:
            names = list(image_folder.image_files(self.data))
            shape = image_folder.natural_shape(self.data) if size is None or channels is None else ()
            tested = image_folder.tested_names(self.data, names, self.held_out, self._held_out_names)
        except (OSError, ValueError, ImportError) as error:
            raise CommandError(f"cannot read images from {self.data}: {error}") from error
        if shape:
            size = size or f"{shape[-2]}x{shape[-1]}"
            channels = channels or (3 if len(shape) == 3 else 1)
        kept = None if image_folder.is_split(names) else "/".join(tested)
        config = replace(self, image_size=size, channels=channels, held_out_classes=kept)
        if config.rotate_classes and config.image_shape[-1] != config.image_shape[-2]:
            raise CommandError(
                f"--rotate-classes: got images of {config.image_size}, need squares; --image-size sets it"
            )
        return config

    def fewest_images(self, need: int) -> int:
        """How many images the smallest class has. Raises ``CommandError``, naming it, where they are below ``need``."""
        assert self.data is not None  # check_new
        sizes = {name: len(files) for name, files in image_folder.image_files(self.data).items()}
        name = min(sizes, key=sizes.__getitem__)
        if sizes[name] < need:
            raise CommandError(
                f"--data: the class {name!r} has {sizes[name]} image{'s' * (sizes[name] != 1)}, and an episode shows "
                f"{need} different ones of a class"
            )
        return sizes[name]

    def read_split(self, original: bool) -> ImageSplit:
        if self.data is None:
            raise CommandError(f"{self.task} needs the folder of the images: --data FOLDER")
        split = image_folder.load(
            self.data,
            self.image_shape,
            invert=self.invert,
            held_out=self.held_out,
            test_names=self._held_out_names,
        )
        train, test = len(split.train_names), len(split.test_names)
        if min(train, test) < self.classes:
            share = math.ceil(100 * self.classes / (train + test)) / 100
            enough = split.drawn and train + test >= 2 * self.classes
            both = (train + test) // 2 if split.drawn else min(train, test)
            remedy = f"--held-out {share} gives validation enough" if enough else "add classes"
            if not enough and both >= 2:
                remedy += f", or take --classes {both}" + (" --held-out 0.5" if both > min(train, test) else "")
            raise CommandError(
                f"--classes: got {self.classes}, need at most {min(train, test)}: {train} classes are for training and "
                f"{test} for validation; {remedy}"
            )
        return split

    def as_read(self, pixels: Tensor) -> Tensor:
        return 255 - pixels if self.invert else pixels

    def read_files(self, paths: Sequence[str | os.PathLike[str]]) -> Tensor:
        return image_folder.read_images(paths, self.image_shape, self.invert)


def _size(text: str) -> tuple[int, int]:
    """``"28"`` and ``"28x28"`` as (28, 28). Raises ``ValueError``."""
    numbers = [int(part) for part in text.split("x")] if re.fullmatch(r"\d{1,4}(x\d{1,4})?", text) else []
    if not numbers or not all(1 <= number <= MOST_SIDE for number in numbers):
        raise ValueError(f"--image-size: got {text}, need HEIGHTxWIDTH such as 28x28, each from 1 to {MOST_SIDE}")
    return numbers[0], numbers[-1]
