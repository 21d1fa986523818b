"""The settings of the meta-memory network, and the network that they describe, for all tasks that it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mannkern.models import MetaMemoryNetwork
from mannkern.training.config import RunConfig, option
from mannkern.training.flags import command_error

META_MEMORY = ("meta-memory",)


@dataclass(frozen=True)
class MetaMemoryConfig(RunConfig):
    """Settings of tasks that a meta-memory network can learn. Raises as ``RunConfig``."""

    hidden_size: int = option(128, "hidden units of each layer of reasoning", only=META_MEMORY)
    layers: int = option(1, "layers of reasoning", only=META_MEMORY)
    inner_steps: int = option(1, "gradient steps on the support set; 0: memory alone", only=META_MEMORY)
    step_size: float = option(0.1, "initial value of the learned step sizes", only=META_MEMORY)
    first_order: bool = option(
        False, "take the gradients of the inner steps for constants: cheaper, inexact", only=META_MEMORY
    )

    GROUP: ClassVar[str] = "meta-memory"
    COUNTS: ClassVar[tuple[str, ...]] = ("hidden_size", "layers", *RunConfig.COUNTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_steps < 0:
            raise ValueError(f"--inner-steps: got {self.inner_steps}, need at least 0")
        if self.step_size <= 0:
            raise ValueError(f"--step-size: got {self.step_size}, need a number above 0")


def meta_memory_network(
    config: MetaMemoryConfig,
    embedding: nn.Module,
    embedding_size: int,
    outputs: int,
    *,
    loss: str = "cross_entropy",
    describe: nn.Module | None = None,
) -> MetaMemoryNetwork:
    """The network that the settings describe, with what depends on the task. Raises ``CommandError`` for wrong sizes.

    The arguments are those of :class:`mannkern.models.MetaMemoryNetwork`.
    """
    try:
        return MetaMemoryNetwork(
            embedding,
            embedding_size,
            outputs,
            loss=loss,
            hidden_size=config.hidden_size,
            layers=config.layers,
            steps=config.inner_steps,
            step_size=config.step_size,
            first_order=config.first_order,
            describe=describe,
            backend=config.backend,
        )
    except ValueError as error:
        raise command_error(error, config) from error
