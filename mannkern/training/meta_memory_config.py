"""The settings of the meta-memory network, and of the sinusoids that it alone learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .config import RunConfig, option

META_MEMORY = ("meta-memory",)


@dataclass(frozen=True)
class MetaMemoryConfig(RunConfig):
    """Settings of tasks that a meta-memory network can learn. Raises as ``RunConfig``."""

    hidden_size: int = option(128, "hidden units of each layer of reasoning", only=META_MEMORY)
    layers: int = option(1, "layers of reasoning", only=META_MEMORY)
    inner_steps: int = option(1, "gradient steps on the support set; 0: memory alone", only=META_MEMORY)
    step_size: float = option(0.1, "where the learned step sizes begin", only=META_MEMORY)
    first_order: bool = option(
        False, "take the gradients of the inner steps for constants: cheaper, inexact", only=META_MEMORY
    )

    GROUP: ClassVar[str] = "meta-memory"
    COUNTS: ClassVar[tuple[str, ...]] = ("hidden_size", "layers", *RunConfig.COUNTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_steps < 0:
            raise ValueError(f"--inner-steps is {self.inner_steps}, needs to be at least 0")
        if self.step_size <= 0:
            raise ValueError(f"--step-size is {self.step_size}, needs to be above 0")


@dataclass(frozen=True)
class SinusoidConfig(MetaMemoryConfig):
    """Settings of few-shot regression of sinusoids. "Paper" is Finn et al. 2017. Raises as ``RunConfig``."""

    task: str = option("sinusoids", "the task", choices=("sinusoids",))
    memory: str = option("meta-memory", "the model", choices=("meta-memory",))
    shots: int = option(10, "points that are shown (paper: 5 and 10)")
    queries: int = option(10, "points that are asked for in training")
    width: int = option(40, "numbers in the embedding of x, and units of its other layer (paper: 2 layers of 40)")
    hidden_size: int = option(40, "hidden units of each layer of reasoning (paper)")
    layers: int = option(2, "layers of reasoning (paper)")
    inner_steps: int = option(5, "gradient steps on the support set; 0: memory alone")
    step_size: float = option(0.01, "where the learned step sizes begin (paper: 0.01, fixed)")
    batch_size: int = option(25, "sinusoids in a step (paper)")
    steps: int | None = option(None, "stop at this step (default: 20000; no limit if --minutes is given)", kind=int)
    log_every: int = option(100, "steps between lines of metrics.jsonl")
    validate_every: int = option(500, "steps between validations")

    GROUP: ClassVar[str] = "sinusoids and the model"
    FAMILY: ClassVar[str] = "lrua"  # of cosine_read
    DEFAULT_STEPS: ClassVar[int] = 20_000
    COUNTS: ClassVar[tuple[str, ...]] = ("shots", "queries", "width", *MetaMemoryConfig.COUNTS)

    @property
    def comparable(self) -> tuple[Any, ...]:
        """Runs in which these agree are measured on the same sinusoids."""
        return self.task, self.shots
