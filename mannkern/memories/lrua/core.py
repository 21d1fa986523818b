"""The core ``mann``: MANN as the recurrent module of a model."""

from __future__ import annotations

from mannkern.memories.core import Core, CoreSettings
from mannkern.memories.lrua.cell import MANNCell
from mannkern.memories.lrua.sequence import MANN


def build(settings: CoreSettings) -> MANN:
    """A MANN of these settings."""
    return MANN(
        settings.input_size,
        settings.hidden_size,
        settings.memory_slots,
        settings.memory_width,
        settings.num_reads,
        controller=settings.controller,
        num_least_used=settings.num_least_used,
        least_used=settings.least_used,
        decay=settings.decay,
        write=settings.write,
        key_strength=settings.key_strength,
        memory_init=settings.memory_init,
        backend=settings.backend,
    )


CORE = Core(
    "mann",
    build,
    has_memory=True,
    options=("least_used", "num_least_used", "decay", "key_strength", "write"),
    family=MANNCell.family,
    operation=MANNCell.episode_operation,
    even_reads=True,
)
