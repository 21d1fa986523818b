"""MANN's interface vector: what the controller tells the memory at each step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class InterfaceVector(NamedTuple):
    """The interface vector, split and activated: key and add (B, R, W) in (-1, 1), gate logits and strength (B, R)."""

    key: Tensor
    add: Tensor
    gate: Tensor
    strength: Tensor | None


def interface_sizes(R: int, W: int, key_strength: bool) -> list[int]:
    """Numbers of the interface vector that are keys, adds, gates and, if a key has one, strengths."""
    return [R * W] * 2 + [R] * (2 if key_strength else 1)


def activate(vector: Tensor, sizes: list[int], R: int, W: int) -> InterfaceVector:
    """Key, add, gate and strength of the linear layer's (B, I), with its ``interface_sizes``."""
    B = vector.shape[0]
    key, add, gate, *strength = vector.split(sizes, -1)
    b = 1 + F.softplus(strength[0]) if strength else None
    return InterfaceVector(torch.tanh(key).view(B, R, W), torch.tanh(add).view(B, R, W), gate, b)
