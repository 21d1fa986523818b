"""The settings of one meta-memory network for several families of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.training.config import option


@dataclass(frozen=True)
class FamiliesConfig(ZeroShotConfig):
    """Settings of C-way tasks by descriptions, by one example and by ``shots`` examples. Raises as ``RunConfig``."""

    task: str = option(
        "families-glyphs",
        "where the drawings come from; glyphs are procedural and need no download, and have no alphabet",
        choices=("families-omniglot", "families-glyphs"),
    )
    shots: int = option(5, "examples of each class in the third family")
    queries: int = option(1, "queries of each class in an episode of training")
    batch_size: int = option(8, "episodes of each family in a step")

    GROUP: ClassVar[str] = "families"
    COUNTS: ClassVar[tuple[str, ...]] = ("shots", *ZeroShotConfig.COUNTS)

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same episodes."""
        return *super().comparable, self.shots
