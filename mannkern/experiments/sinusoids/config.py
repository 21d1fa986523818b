"""The settings of few-shot regression of sinusoids. "Paper" is Finn et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.meta_memory import META_MEMORY, MetaMemoryConfig
from mannkern.training.config import MODEL_GROUP, option


@dataclass(frozen=True)
class SinusoidConfig(MetaMemoryConfig):
    """Settings of sinusoids and of the meta-memory network that learns them. Raises as ``RunConfig``."""

    task: str = option("sinusoids", "the task", choices=("sinusoids",))
    model: str = option("meta-memory", "the model", choices=META_MEMORY)
    shots: int = option(10, "points of a sinusoid that the network sees (paper: 5 and 10)")
    queries: int = option(10, "points of a sinusoid that it has to answer in training")
    width: int = option(
        40, "numbers in the embedding of x, and units of its other layer (paper: 2 layers of 40)", group=MODEL_GROUP
    )
    hidden_size: int = option(40, "hidden units of each layer of reasoning (paper)")
    layers: int = option(2, "layers of reasoning (paper)")
    inner_steps: int = option(5, "gradient steps on the support set; 0: memory alone")
    step_size: float = option(0.01, "initial value of the learned step sizes (paper: 0.01, fixed)")
    batch_size: int = option(25, "sinusoids in a step (paper)")
    steps: int | None = option(None, "stop at this step (default: 20000; no limit if --minutes is given)", kind=int)
    log_every: int = option(100, "steps between lines of metrics.jsonl")
    validate_every: int = option(500, "steps between validations")

    GROUP: ClassVar[str] = "sinusoids"
    FAMILY: ClassVar[str] = "lrua"  # the family of cosine_read
    DEFAULT_STEPS: ClassVar[int] = 20_000

    def numbers_of_batch(self) -> int:
        points = self.shots + self.queries  # each has x, y and an embedding
        return super().numbers_of_batch() + self.batch_size * points * (2 + self.width)

    COUNTS: ClassVar[tuple[str, ...]] = ("shots", "queries", "width", *MetaMemoryConfig.COUNTS)

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same sinusoids."""
        return self.task, self.shots
