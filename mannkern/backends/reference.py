"""The backend ``reference``: plain PyTorch on any device. It has the equations of every family and no kernels."""

from __future__ import annotations

import torch

from mannkern.backends.backend import Backend, Sizes


def _why_not(device: torch.device, sizes: Sizes) -> str:
    return ""


BACKEND = Backend("reference", families=(), devices=(), why_not=_why_not, overload=None)
