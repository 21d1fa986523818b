"""The backend ``cuda``: the compiled CUDA kernels of the NTM, for tensors on an NVIDIA GPU."""

from __future__ import annotations

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
