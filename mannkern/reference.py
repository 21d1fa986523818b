"""The equations in plain PyTorch: the definition, the fallback and the oracle of the tests.

docs/equations.md has them by name. Every function takes any device and float dtype and is differentiable any number of
times. Letters are those of :mod:`mannkern.functional`. Nothing is checked and nothing has a default: ``lrua_step``
needs its strength or None, the number of least used slots, whether they are per head, and the decay. For the defaults
and the checks, call :mod:`mannkern.functional` with ``backend="reference"``.
"""

from mannkern.memories.content import cosine_weights, read
from mannkern.memories.lrua.reference import (
    additive_write,
    cosine_read,
    least_used_mask,
    least_used_slots,
    lrua_scan,
    lrua_step,
    usage_update,
    weighted_read,
)
from mannkern.memories.ntm.reference import interpolate, ntm_address, ntm_write, shift_sharpen

__all__ = [
    "additive_write",
    "cosine_read",
    "cosine_weights",
    "interpolate",
    "least_used_mask",
    "least_used_slots",
    "lrua_scan",
    "lrua_step",
    "ntm_address",
    "ntm_write",
    "read",
    "shift_sharpen",
    "usage_update",
    "weighted_read",
]
