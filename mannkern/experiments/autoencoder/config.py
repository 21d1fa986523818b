"""The settings of the autoencoder whose codes serve the nearest neighbours. "Paper" is Santoro et al. 2016."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.characters import DrawingConfig
from mannkern.training.config import RunConfig, option


@dataclass(frozen=True)
class AutoencoderConfig(DrawingConfig):
    """Settings of an autoencoder of drawings. Raises as ``RunConfig``."""

    task: str = option(
        "autoencoder-glyphs",
        "where the drawings come from; glyphs are procedural and need no download",
        choices=("autoencoder-omniglot", "autoencoder-glyphs"),
    )
    model: str = option("autoencoder", "the model", choices=("autoencoder",))
    hidden_size: int = option(200, "units of each of the two layers before the code (paper)")
    width: int = option(32, "numbers of the code (paper)")
    batch_size: int = option(128, "drawings in a step")
    steps: int | None = option(None, "stop at this step (default: 20000; no limit if --minutes is given)", kind=int)
    log_every: int = option(100, "steps between lines of metrics.jsonl")
    validate_every: int = option(1000, "steps between validations")

    GROUP: ClassVar[str] = "the autoencoder"
    FAMILY: ClassVar[str] = "lrua"
    DEFAULT_STEPS: ClassVar[int] = 20_000
    OUTPUT_LAYERS: ClassVar[tuple[str, ...]] = ("decoder.4",)
    COUNTS: ClassVar[tuple[str, ...]] = ("hidden_size", "width", *RunConfig.COUNTS)

    @property
    def comparable(self) -> tuple[Any, ...]:
        return self.task, self.split

    def numbers_of_batch(self) -> int:
        return super().numbers_of_batch() + self.batch_size * self.pixels
