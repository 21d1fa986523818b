"""The settings of a task on sequences of your own."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import ClassVar

from mannkern.experiments.recurrent import RecurrentConfig
from mannkern.models.cores import core_names, understanding, with_memory
from mannkern.training.config import RunConfig, option


@dataclass(frozen=True)
class SequenceConfig(RecurrentConfig):
    """Settings of a core that learns sequences. Raises as ``RunConfig``."""

    model: str = option("mann", "the model: a core, with a memory or without", choices=core_names)
    controller: str = option("lstm", "controller of the memory", choices=("lstm", "feedforward"), only=with_memory)
    hidden_size: int = option(100, "hidden units of the controller, or of a core without memory")
    memory_width: int = option(20, "width W of a slot", only=with_memory)
    num_reads: int = option(1, "read heads R", only=with_memory)
    num_writes: int = option(1, "write heads", only=understanding("num_writes"))
    key_strength: bool = option(True, "learn how sharply a key addresses", only=understanding("key_strength"))
    batch_size: int = option(16, "sequences in a step")
    steps: int | None = option(None, "stop at this step (default: 10000; no limit if --minutes is given)", kind=int)

    GROUP: ClassVar[str] = "the model"
    FAMILY: ClassVar[str] = "lrua"
    DEFAULT_STEPS: ClassVar[int] = 10_000
    COUNTS: ClassVar[tuple[str, ...]] = ("hidden_size", *RunConfig.COUNTS)


def config_of(task: str) -> type[SequenceConfig]:
    """The class of the settings of the task ``task``."""
    chosen = option(task, "the task", choices=(task,))
    return make_dataclass("SequenceConfig", [("task", "str", chosen)], bases=(SequenceConfig,), frozen=True)
