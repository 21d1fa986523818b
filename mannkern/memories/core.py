"""Cores: a core is the recurrent module of a model, such as a MANN or an LSTM. ``--model`` chooses it by name.

It maps an episode (T, B, F) to outputs (T, B, ``output_size``). A memory family brings its own. Once a core is
registered, the settings of the tasks offer its name for ``--model``, and every setting that it understands applies to
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class CoreSettings:
    """Settings of a core. Each core reads those that it understands and ignores the others.

    input_size F, hidden_size D; memory_slots N, memory_width W and num_reads R of a memory: the defaults are those of
    Santoro et al. (2016). num_writes and shift_range are an NTM's (:class:`mannkern.NTMCell`); least_used,
    num_least_used, decay, key_strength and write are LRUA's (:class:`mannkern.MANNCell`). lstm_layers: those of an LSTM
    without memory.
    """

    input_size: int
    hidden_size: int = 200
    memory_slots: int = 128
    memory_width: int = 40
    num_reads: int = 4
    num_writes: int = 1
    shift_range: int = 1
    controller: str = "lstm"
    least_used: str = "shared"
    num_least_used: int | None = None
    decay: float = 0.99
    key_strength: bool = False
    write: str = "add"
    memory_init: float | str = 1e-6
    backend: str | None = None
    lstm_layers: int = 1


MEMORY_SETTINGS = ("controller", "memory_slots", "memory_width", "num_reads", "memory_init")
"""Settings that every core with a memory understands."""


@dataclass(frozen=True)
class Core:
    """The record of a core.

    name:       what ``--model`` calls it
    build:      settings -> a module (T, B, F) -> output (T, B, D') or (output, state), with D' as its ``output_size``;
                a core with a memory also has ``trace``, as :class:`mannkern.memories.sequence.MemorySequence` does
    has_memory: whether it has a memory of N slots
    options:    the settings that it understands beyond ``hidden_size`` and, with a memory, ``MEMORY_SETTINGS``
    family:     the family of operations whose backend it needs; None without a memory
    operation:  its whole episode as one operation, which a backend may have without the family's others
    even_reads: whether its read weights are a softmax over all slots, so that a picture starts at 1 / N, not at 0
    """

    name: str
    build: Callable[[CoreSettings], nn.Module]
    has_memory: bool = False
    options: tuple[str, ...] = ()
    family: str | None = None
    operation: str = ""
    even_reads: bool = False

    def understands(self, setting: str) -> bool:
        """Whether the setting changes this core."""
        return setting in self.options or (self.has_memory and setting in MEMORY_SETTINGS)


CORES: dict[str, Core] = {}


def register_core(core: Core) -> None:
    """Add a core under its name. Raises ``ValueError`` where the name is taken."""
    if core.name in CORES:
        raise ValueError(f"core: got {core.name!r}, need a name that is not registered yet")
    CORES[core.name] = core
