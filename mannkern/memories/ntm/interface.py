"""The NTM's interface vector: what the controller tells the heads at each step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class InterfaceVector(NamedTuple):
    """The interface vector, split and activated, the write heads first: see :func:`mannkern.functional.ntm_address`.

    key (B, H, W), strength, gate and sharpness (B, H), shift (B, H, S); erase and add (B, H - R, W) of the write heads.
    """

    key: Tensor
    strength: Tensor
    gate: Tensor
    shift: Tensor
    sharpness: Tensor
    erase: Tensor
    add: Tensor


def interface_sizes(H: int, V: int, W: int, S: int) -> list[int]:
    """Numbers of the interface vector of H heads, V of them writing, for each part in the order of csrc/args/ntm.h.

    Key, add, erase, gate, strength, sharpness, shift.
    """
    return [H * W, V * W, V * W, H, H, H, H * S]


def activate(vector: Tensor, sizes: list[int], H: int, V: int, W: int, S: int) -> InterfaceVector:
    """The parts of the linear layer's (B, I), with its ``interface_sizes``."""
    B = vector.shape[0]
    key, add, erase, gate, strength, sharpness, shift = vector.split(sizes, -1)
    return InterfaceVector(
        key.view(B, H, W),
        F.softplus(strength),
        torch.sigmoid(gate),
        torch.softmax(shift.view(B, H, S), -1),
        1 + F.softplus(sharpness),
        torch.sigmoid(erase).view(B, V, W),
        torch.tanh(add).view(B, V, W),
    )
