"""The backend ``cuda``: the compiled CUDA kernels of the NTM, for tensors on an NVIDIA GPU.

Of LRUA it has whole episodes of a MANN alone, as one persistent kernel, which run only where a call names the backend.
"""

from __future__ import annotations

import os

import torch

from mannkern.backends import native
from mannkern.backends.backend import Backend, Sizes

_MOST_SLOTS = 65_536


def _why_not(device_type: str, sizes: Sizes) -> str:
    if device_type != "cuda":
        return f"backend 'cuda' runs on a GPU, not on {device_type!r}"
    if native.cuda_reason:
        return native.cuda_reason
    return "" if sizes.N <= _MOST_SLOTS else f"N = {sizes.N}, the CUDA kernels take up to {_MOST_SLOTS:,}"


BACKEND = Backend("cuda", families=("ntm",), devices=("cuda",), why_not=_why_not)


def runs_episode(family: str, requested: str | None) -> bool:
    """Whether a call asks by name for an episode of a family of which this backend has nothing else."""
    name = requested if requested is not None else os.environ.get("MANNKERN_BACKEND")
    return name == BACKEND.name and family == "lrua"


def why_no_episode(device: torch.device, dtype: torch.dtype, D: int, N: int, W: int, R: int) -> str:
    """Why the persistent kernel cannot run a MANN's episode of these sizes; "" where it can."""
    reason = _why_not(device.type, Sizes(N, W, R))
    if reason:
        return reason
    if dtype != torch.float32:
        return f"the persistent kernel computes in float32, not in {dtype}"
    return native.persistent_why_not(torch.cuda.current_device() if device.index is None else device.index, D, N, W, R)
