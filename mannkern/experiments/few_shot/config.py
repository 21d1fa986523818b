"""The settings of few-shot classification. "Paper" is Vinyals et al. 2016."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.characters import SIDE, CharacterConfig, check_classes
from mannkern.experiments.meta_memory import META_MEMORY, MetaMemoryConfig
from mannkern.training.config import MODEL_GROUP, OPTIMIZER_HELP, OPTIMIZERS, option

# Strength of the attention by model. The meta-memory network learns its own.
STRENGTH = {"matching": 10.0, "matching-fce": 10.0, "meta-networks": 1.0}


@dataclass(frozen=True)
class FewShotConfig(CharacterConfig, MetaMemoryConfig):
    """Settings of C-way K-shot episodes, each with a support set and queries. Raises as ``RunConfig``."""

    task: str = option(
        "few-shot-glyphs",
        "where the drawings come from; glyphs are procedural and need no download",
        choices=("few-shot-omniglot", "few-shot-glyphs"),
    )
    shots: int = option(1, "drawings of each class in the support set (paper: 1 and 5)")
    queries: int = option(1, "queries of each class in an episode of training")
    augment: bool = option(True, "shift and rotate training drawings at random (as Santoro et al. 2016)")
    model: str = option(
        "matching",
        "the model: Matching Networks, without (matching) or with full context embeddings (matching-fce); Meta "
        "Networks; or a meta-memory network",
        choices=(*STRENGTH, *META_MEMORY),
    )
    drawing_side: int = option(
        SIDE, "pixels along a side of a drawing (both papers: 28), from 16", only=("few-shot-omniglot",)
    )
    width: int = option(
        64, "numbers in the embedding of a drawing, and filters of its convolutions (paper)", group=MODEL_GROUP
    )
    strength: float | None = option(
        None,
        "strength of the cosine attention (matching: 10, because it learns slowly with the paper's 1; meta-networks: "
        "the paper's 1; meta-memory learns it)",
        kind=float,
        only=tuple(STRENGTH),
        group=MODEL_GROUP,
    )
    context_steps: int = option(
        5, "times that a query reads the support set under full context", only=("matching-fce",), group=MODEL_GROUP
    )
    blocks: int = option(
        4,
        "convolutional blocks (authors: 5, whose pooling rounds up, at 28 pixels)",
        only=("meta-networks",),
        group=MODEL_GROUP,
    )
    augmented_blocks: int = option(
        0,
        "convolutional blocks with fast weights, from the last one back (authors: all; 0 learns most in a given time)",
        only=("meta-networks",),
        group=MODEL_GROUP,
    )
    pairs: bool = option(
        False,
        "the embedding's loss is that of pairs of the support set (paper, for more than one shot), not cross entropy",
        only=("meta-networks",),
        group=MODEL_GROUP,
    )
    optimizer: str = option("muon", OPTIMIZER_HELP, choices=OPTIMIZERS)
    batch_size: int = option(16, "episodes in a step")
    steps: int | None = option(None, "stop at this step (default: 10000; no limit if --minutes is given)", kind=int)
    validate_every: int = option(250, "steps between validations")

    GROUP: ClassVar[str] = "support sets and queries"
    FAMILY: ClassVar[str] = "lrua"  # the family of cosine_read
    DEFAULT_STEPS: ClassVar[int] = 10_000
    COUNTS: ClassVar[tuple[str, ...]] = (
        "classes",
        "shots",
        "queries",
        "width",
        "context_steps",
        "blocks",
        *MetaMemoryConfig.COUNTS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 16 <= self.drawing_side <= 105:
            raise ValueError(f"--drawing-side: got {self.drawing_side}, need 16 to 105 pixels")
        if self.strength is None:
            object.__setattr__(self, "strength", STRENGTH.get(self.model))  # config.json keeps the value, not None
        elif self.model not in STRENGTH:
            raise ValueError(f"--strength does not apply to {self.model}, which learns it")
        elif not 0 < self.strength < math.inf:
            raise ValueError(f"--strength: got {self.strength}, need a number above 0")

    def check_new(self) -> None:
        super().check_new()
        check_classes(self.classes)

    def numbers_of_batch(self) -> int:
        drawings = self.classes * (self.shots + self.queries)
        return super().numbers_of_batch() + self.batch_size * drawings * self.pixels

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same episodes."""
        return self.task, self.classes, self.shots, self.split
