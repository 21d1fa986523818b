"""The settings of one-shot classification of your own images."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mannkern.experiments.image_settings import ImageSettings
from mannkern.experiments.one_shot.config import SHOWN, OneShotConfig
from mannkern.training.config import option


@dataclass(frozen=True)
class ImagesConfig(OneShotConfig, ImageSettings):
    """Settings of episodes of images, each step with a label to answer. Raises as ``OneShotConfig``."""

    task: str = option("images", "images of your own", choices=("images",))
    data: str | None = option(None, "folder of the images, with a folder for each class; required", kind=str)
    rotate_classes: bool = option(False, "quarter turns of training classes are new classes, as of drawn characters")

    GROUP: ClassVar[str] = "your images"

    @property
    def comparable(self) -> tuple[Any, ...]:
        return *super().comparable, *self.source

    def completed(self) -> ImagesConfig:
        """The length of an episode too, where a class has fewer images than the usual episode shows."""
        config = super().completed()
        if config.shots is not None or config.length != SHOWN * config.classes:
            config.fewest_images(math.ceil(config.length / config.classes))
            return config
        fewest = config.fewest_images(2)
        if fewest >= SHOWN:
            return config
        print(f"A class has only {fewest} images, so an episode has {fewest} steps for each class.", file=sys.stderr)
        return replace(config, length=fewest * config.classes)
