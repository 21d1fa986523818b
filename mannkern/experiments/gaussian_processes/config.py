"""The settings of regression on Gaussian processes. "Paper" is Santoro et al. 2016, section 4.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mannkern.experiments.recurrent import RecurrentConfig
from mannkern.models.cores import core_names, understanding, with_memory
from mannkern.tasks import GaussianProcessSampler
from mannkern.training.config import MODEL_GROUP, OPTIMIZER_HELP, OPTIMIZERS, RunConfig, option


@dataclass(frozen=True)
class GaussianProcessConfig(RecurrentConfig):
    """Settings of functions from a Gaussian process and of the model that predicts them. Raises as ``RunConfig``."""

    task: str = option("gaussian-processes", "the task", choices=("gaussian-processes",))
    dimensions: int = option(1, "variables of a function (paper: 1, 2 and 3)")
    length: int = option(50, "points of a function, which the model sees one after the other")
    length_scale: float = option(1.0, "length scale of the process; coordinates lie between -2 and 2")
    noise: float = option(0.05, "standard deviation of the noise on every value")
    model: str = option(
        "mann",
        "the model: a controller with a memory addressed by LRUA (mann) or as the NTM's is (ntm); or without one an "
        "LSTM or a tanh layer",
        choices=core_names,
    )
    controller: str = option(
        "lstm", "controller of the memory", choices=("lstm", "feedforward"), only=with_memory, group=MODEL_GROUP
    )
    hidden_size: int = option(200, "hidden units of the controller (paper)", group=MODEL_GROUP)
    memory_width: int = option(40, "width W of a slot (paper)", only=with_memory, group=RecurrentConfig.GROUP)
    num_reads: int = option(4, "read heads R (paper)", only=with_memory, group=RecurrentConfig.GROUP)
    key_strength: bool = option(
        True,
        "learn how sharply a key addresses (paper: no)",
        only=understanding("key_strength"),
        group=RecurrentConfig.GROUP,
    )
    optimizer: str = option("muon", OPTIMIZER_HELP, choices=OPTIMIZERS)
    lr: float | None = option(
        None, "learning rate (default: 2e-2 for muon, 1e-3 for adam, 1e-4 for rmsprop)", kind=float
    )
    steps: int | None = option(None, "stop at this step (default: 20000; no limit if --minutes is given)", kind=int)
    log_every: int = option(100, "steps between lines of metrics.jsonl")
    validate_every: int = option(500, "steps between validations")

    GROUP: ClassVar[str] = "functions"
    FAMILY: ClassVar[str] = "lrua"
    DEFAULT_STEPS: ClassVar[int] = 20_000
    RATES: ClassVar[dict[str, float]] = RunConfig.RATES | {"muon": 2e-2}
    COUNTS: ClassVar[tuple[str, ...]] = ("dimensions", "length", *RunConfig.COUNTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sampler(self.seed)

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same functions."""
        return self.task, self.dimensions, self.length, self.length_scale, self.noise

    def numbers_of_batch(self) -> int:
        return super().numbers_of_batch() + 2 * self.batch_size * self.length * (self.dimensions + self.length)

    def sampler(self, seed: int) -> GaussianProcessSampler:
        """Functions of these settings. Raises ``ValueError`` naming one that cannot be."""
        return GaussianProcessSampler(self.dimensions, self.length, self.length_scale, self.noise, seed)
