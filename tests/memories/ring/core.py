"""The core ``ring``: a RingCell over an episode, as the recurrent module of a model."""

from __future__ import annotations

from mannkern.memories.core import Core, CoreSettings
from mannkern.memories.sequence import MemorySequence
from tests.memories.ring.cell import RingCell


def build(settings: CoreSettings) -> MemorySequence:
    """The settings that every core with a memory understands."""
    cell = RingCell(
        settings.input_size,
        settings.hidden_size,
        settings.memory_slots,
        settings.memory_width,
        settings.num_reads,
        controller=settings.controller,
        memory_init=settings.memory_init,
        backend=settings.backend,
    )
    return MemorySequence(cell)


CORE = Core("ring", build, has_memory=True, family="ring", even_reads=True)
