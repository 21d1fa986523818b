"""The settings of few-shot classification of images. "Paper" is Vinyals et al. 2016."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.characters import check_classes
from mannkern.experiments.meta_memory import META_MEMORY, MetaMemoryConfig
from mannkern.tasks.images import SIDE
from mannkern.training.config import MODEL_GROUP, option
from mannkern.training.errors import CommandError


@dataclass(frozen=True)
class FewShotImagesConfig(MetaMemoryConfig):
    """Settings of C-way K-shot episodes of images and of a meta-memory network. Raises as ``RunConfig``."""

    task: str = option("few-shot-images", "the task", choices=("few-shot-images",))
    data: str | None = option(
        None, "folder with images/ and the lists train.csv, val.csv and test.csv, as of mini-ImageNet; required",
        kind=str,
    )  # fmt: skip
    classes: int = option(5, "classes in an episode (paper)")
    shots: int = option(1, "images of each class in the support set (paper: 1 and 5)")
    queries: int = option(5, "queries of each class in an episode")
    side: int = option(SIDE, "pixels along a side that images are reduced to (papers), from 16")
    model: str = option("meta-memory", "the model", choices=META_MEMORY)
    width: int = option(
        64, "numbers in the embedding of an image, and filters of its convolutions (paper)", group=MODEL_GROUP
    )
    batch_size: int = option(4, "episodes in a step")
    steps: int | None = option(None, "stop at this step (default: 20000; no limit if --minutes is given)", kind=int)
    validate_every: int = option(500, "steps between validations")

    GROUP: ClassVar[str] = "support sets and queries"
    FAMILY: ClassVar[str] = "lrua"  # the family of cosine_read
    DEFAULT_STEPS: ClassVar[int] = 20_000
    COUNTS: ClassVar[tuple[str, ...]] = ("classes", "shots", "queries", "width", *MetaMemoryConfig.COUNTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 16 <= self.side <= 1024:
            raise ValueError(f"--side: got {self.side}, need 16 to 1024 pixels")

    def check_new(self) -> None:
        super().check_new()
        check_classes(self.classes)
        if self.data is None:
            raise CommandError(f"{self.task} needs its folder: --data FOLDER")
        if not os.path.isdir(self.data):
            raise CommandError(f"no images at {self.data}: no such folder")

    def numbers_of_batch(self) -> int:
        images = self.classes * (self.shots + self.queries)
        return super().numbers_of_batch() + self.batch_size * images * 3 * self.side**2

    @property
    def shape(self) -> str:
        """What an episode is called."""
        return f"{self.classes}-way {self.shots}-shot"

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same episodes."""
        return self.task, self.classes, self.shots, self.side, os.path.realpath(self.data or "")
