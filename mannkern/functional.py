"""The operations of LRUA (Santoro et al. 2016) and of the NTM (Graves et al. 2014), fused, with hand-written gradients.

B episodes, N memory slots, W width of a slot, R read heads of LRUA, H heads and S shifts of the NTM. Tensors are
float32 or float64, all the same; float16 and bfloat16 are accepted and widened, so results are float32 then. Inputs may
be strided views and are never written to; B = 0 works.

``backend`` is the name of a backend, such as "cpp" or "reference", or "auto", which takes the fastest one that runs on
the device; None stands for the environment variable MANNKERN_BACKEND, or "auto" if that is not set.
:func:`mannkern.backend_info` tells which backends run here. ``weighted_read`` and ``interpolate`` take none: they are
plain PyTorch on every device.

Every function raises ValueError or TypeError for a wrong rank, size, dtype, device or value, naming the argument,
before any work, and RuntimeError if the backend that was named cannot run the call. Values of GPU tensors (a negative
strength, a slot out of range) are not read, because that would wait for the GPU. Gates, erases and shifts out of their
range are not refused anywhere: the equations hold for any number.

Kernels compute results and first gradients. Where a gradient is differentiated again, as under create_graph=True, or
where forward-mode derivatives are taken, as by torch.func.jvp, the derivatives are those of backend="reference", on
every backend; this is slower.
"""

from __future__ import annotations

from typing import Any

from mannkern.memories.lrua.functional import (
    LRUAScan,
    LRUAStep,
    additive_write,
    cosine_read,
    least_used_mask,
    lrua_scan,
    lrua_step,
    usage_update,
    weighted_read,
)
from mannkern.memories.ntm.functional import interpolate, ntm_address, ntm_write, shift_sharpen
from mannkern.memories.registry import FAMILIES

__all__ = [
    "LRUAScan",
    "LRUAStep",
    "additive_write",
    "cosine_read",
    "interpolate",
    "least_used_mask",
    "lrua_scan",
    "lrua_step",
    "ntm_address",
    "ntm_write",
    "shift_sharpen",
    "usage_update",
    "weighted_read",
]


def __dir__() -> list[str]:
    """The functions of this module, and the operations of memory families that were registered later."""
    return sorted({*globals(), *(name for family in FAMILIES.values() for name in family.operations)})


def __getattr__(name: str) -> Any:
    """The operations of memory families that were registered later."""
    for family in FAMILIES.values():
        if name in family.operations:
            return family.operations[name].function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
