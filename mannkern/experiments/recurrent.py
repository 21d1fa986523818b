"""What the experiments with a core share: the core's settings, and the LSTM to train beside it as a baseline."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from mannkern.models.cores import CORES, Core, CoreSettings, with_memory
from mannkern.training.config import RunConfig, number_or_name, option
from mannkern.training.errors import CommandError

BASELINE = "lstm"


@dataclass(frozen=True)
class RecurrentConfig(RunConfig):
    """Settings of tasks that a core learns (``mannkern.models.cores``); ``model`` is the core's name."""

    memory_slots: int = option(128, "slots N of the memory", only=with_memory)
    memory_init: float | str = option(
        1e-6, "initial memory: a number, uniform or learned", kind=number_or_name, only=with_memory
    )
    baseline: bool = option(
        False, "then train an LSTM alone on the same data, in RUN/lstm, and compare", group=RunConfig.GROUP
    )

    GROUP: ClassVar[str] = "the memory"
    NO_GOAL: ClassVar[dict[str, Any]] = {}  # settings without a goal that ends training: a baseline trains as long

    @property
    def core(self) -> Core:
        """The record of the model's core."""
        return CORES[self.model]

    @property
    def family(self) -> str:
        """The core's family of operations; without one, that of the task's usual core."""
        return self.core.family or self.FAMILY

    @property
    def operation(self) -> dict[str, Any]:
        if not self.core.operation:
            return {}
        core = self.core_settings(1)
        sizes = {"N": core.memory_slots, "W": core.memory_width, "R": core.num_reads, "D": core.hidden_size}
        return {"operation": self.core.operation, **sizes}

    def core_settings(self, input_size: int) -> CoreSettings:
        """The settings of the core: each takes the run's value of the same name, else its own default."""
        names = {entry.name for entry in fields(CoreSettings)} & {entry.name for entry in fields(self)}
        return CoreSettings(input_size, **{name: getattr(self, name) for name in names})

    def numbers_of_batch(self) -> int:
        width = getattr(self, "memory_width", 0) if self.core.has_memory else 0
        return super().numbers_of_batch() + self.batch_size * self.memory_slots * width

    def check_new(self) -> None:
        super().check_new()
        check_baseline(self)

    def baseline_at(self, step: int) -> RunConfig | None:
        if not self.baseline:
            return None
        return replace(self, model=BASELINE, steps=step, minutes=None, baseline=False, **self.NO_GOAL)


def check_baseline(config: RunConfig) -> None:
    """Raises ``CommandError`` where a run that is an LSTM is to have one beside it."""
    if config.model == BASELINE and config.baseline_at(0) is not None:
        raise CommandError("--baseline trains an LSTM beside a memory; this run is an LSTM already")
