"""The backend ``cpp``: the compiled C++ kernels, for CPU tensors."""

from __future__ import annotations

import torch

from mannkern.backends import native
from mannkern.backends.backend import Backend, FusedEpisode, Sizes


def _why_not(device: torch.device, sizes: Sizes) -> str:
    return native.reason if device.type == "cpu" else f"backend 'cpp' runs on the CPU, not on {device.type!r}"


_EPISODE = FusedEpisode("default", longest_first=True, multiplies_bfloat16=lambda: native.multiplies_bfloat16)

BACKEND = Backend(
    "cpp",
    families=("lrua", "ntm"),
    devices=("cpu",),
    why_not=_why_not,
    episodes=dict.fromkeys(("lrua", "ntm"), _EPISODE),
    fuses_steps=True,
)
