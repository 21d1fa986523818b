"""The core ``ntm``: NTM as the recurrent module of a model."""

from __future__ import annotations

from mannkern.memories.core import Core, CoreSettings
from mannkern.memories.ntm.sequence import NTM


def build(settings: CoreSettings) -> NTM:
    """An NTM of these settings."""
    return NTM(
        settings.input_size,
        settings.hidden_size,
        settings.memory_slots,
        settings.memory_width,
        settings.num_reads,
        settings.num_writes,
        settings.shift_range,
        controller=settings.controller,
        memory_init=settings.memory_init,
        backend=settings.backend,
    )


CORE = Core("ntm", build, True, ("num_writes", "shift_range"), "ntm")
