"""The settings of one-shot classification of your own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mannkern.experiments.image_settings import ImageSettings
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.training.config import option


@dataclass(frozen=True)
class ImagesConfig(OneShotConfig, ImageSettings):
    """Settings of episodes of images, each step with a label to answer. Raises as ``OneShotConfig``."""

    task: str = option("images", "images of your own", choices=("images",))
    data: str | None = option(None, "folder of the images, with a folder for each class; required", kind=str)
    rotate_classes: bool = option(False, "quarter turns of training classes are new classes, as of drawn characters")

    GROUP: ClassVar[str] = "your images"
