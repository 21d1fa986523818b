"""The settings of zero-shot classification by a meta-memory network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.characters import CharacterConfig, check_classes
from mannkern.experiments.meta_memory import META_MEMORY, MetaMemoryConfig
from mannkern.training.config import MODEL_GROUP, OPTIMIZER_HELP, OPTIMIZERS, option


@dataclass(frozen=True)
class ZeroShotConfig(CharacterConfig, MetaMemoryConfig):
    """Settings of episodes of C described classes, each with queries. Raises as ``RunConfig``."""

    task: str = option(
        "zero-shot-glyphs",
        "where the drawings come from; glyphs are procedural and need no download, and have no alphabet",
        choices=("zero-shot-omniglot", "zero-shot-glyphs"),
    )
    model: str = option("meta-memory", "the model", choices=META_MEMORY)
    alphabet: bool = option(
        True,
        "a description has the number of the alphabet beside how the character is drawn",
        only=("zero-shot-omniglot", "families-omniglot"),
    )
    queries: int = option(5, "queries of each class in an episode")
    width: int = option(64, "numbers in the embedding of a drawing or a description", group=MODEL_GROUP)
    optimizer: str = option("muon", OPTIMIZER_HELP, choices=OPTIMIZERS)
    batch_size: int = option(16, "episodes in a step")
    steps: int | None = option(None, "stop at this step (default: 4000; no limit if --minutes is given)", kind=int)
    validate_every: int = option(250, "steps between validations")

    GROUP: ClassVar[str] = "descriptions and queries"
    FAMILY: ClassVar[str] = "lrua"  # the family of cosine_read
    DEFAULT_STEPS: ClassVar[int] = 4000
    COUNTS: ClassVar[tuple[str, ...]] = ("classes", "queries", "width", *MetaMemoryConfig.COUNTS)

    def check_new(self) -> None:
        super().check_new()
        check_classes(self.classes)

    @property
    def names_alphabets(self) -> bool:
        """Whether descriptions have the number of an alphabet."""
        return self.omniglot and self.alphabet

    def numbers_of_batch(self) -> int:
        return super().numbers_of_batch() + self.batch_size * self.classes * self.queries * self.pixels

    @property
    def shape(self) -> str:
        """What an episode is called."""
        return f"{self.classes}-way by descriptions"

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same episodes."""
        return self.task, self.classes, self.split
