"""The settings of few-shot classification of your own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.image_settings import ImageSettings
from mannkern.training.config import option
from mannkern.training.errors import CommandError

LEAST_SIDE = 16  # four blocks of convolution halve an image four times


@dataclass(frozen=True)
class FewShotImagesConfig(FewShotConfig, ImageSettings):
    """Settings of C-way K-shot episodes of images. Raises as ``FewShotConfig``."""

    task: str = option("few-shot-folder", "images of your own", choices=("few-shot-folder",))
    data: str | None = option(None, "folder of the images, with a folder for each class; required", kind=str)
    rotate_classes: bool = option(False, "quarter turns of training classes are new classes, as of drawn characters")

    GROUP: ClassVar[str] = "your images"

    @property
    def comparable(self) -> tuple[Any, ...]:
        return *super().comparable, *self.source

    def completed(self) -> FewShotImagesConfig:
        config = super().completed()
        if min(config.image_shape[-2:]) < LEAST_SIDE:
            raise CommandError(f"--image-size: got {config.image_size}, need at least {LEAST_SIDE} a side")
        config.fewest_images(config.shots + config.queries)
        return config
