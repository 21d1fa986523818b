"""The ring buffer in plain PyTorch: its definition."""

from __future__ import annotations

import torch
from torch import Tensor


def ring_write(memory: Tensor, place: Tensor, value: Tensor) -> Tensor:
    """Write: M'(i) = (1 - p(i)) M(i) + p(i) v. Returns memory (B, N, W)."""
    place = place.unsqueeze(-1)
    return (1 - place) * memory + place * value.unsqueeze(1)


def ring_read(memory: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Read: w[h] = softmax_i(k[h] . M(i)), r[h] = sum_i w[h](i) M(i)."""
    weights = torch.softmax(key @ memory.mT, -1)
    return weights @ memory, weights
