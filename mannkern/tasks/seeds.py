"""Random streams of a seed and a number alone, so that a resumed training draws what an unbroken one does."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of batch ``index`` (the training step, below 2**32) of ``seed``, fresh at every call."""
    stream = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "little")
    # A CPU generator keeps 32 bits of its seed; an odd factor gives every index a seed of its own.
    return torch.Generator(device).manual_seed((stream + index * 0x9E3779B1) % 2**32)
