"""The sizes and types that bench/static.py compiles the Triton kernels for."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Configuration(NamedTuple):
    """Sizes and types that a user may bring. ``interface`` is the type of keys, adds, gates and strengths.

    hidden: D of a MANN whose episode is compiled, with an LSTM or one tanh layer; 0 for none
    tf32: the user allows TF32; the kernels with products alone, since the others are the same
    """

    N: int
    W: int
    R: int
    n: int
    dtype: torch.dtype = torch.float32
    interface: torch.dtype = torch.float32
    strength: bool = False
    per_head: bool = False
    hidden: int = 0
    lstm: bool = True
    tf32: bool = False


CONFIGURATIONS = {
    "standard": Configuration(128, 40, 4, 4, hidden=200),
    "TF32": Configuration(128, 40, 4, 4, hidden=200, tf32=True),
    "TF32, tanh layer": Configuration(128, 40, 4, 4, hidden=200, lstm=False, tf32=True),
    "autocast": Configuration(128, 40, 4, 4, interface=torch.bfloat16, strength=True),
    "per head": Configuration(128, 40, 4, 4, per_head=True, hidden=200, lstm=False),
    "many heads, n sorted by bisection": Configuration(128, 40, 16, 20),
    "width a power of two": Configuration(128, 64, 1, 1),
    "small, float64": Configuration(
        33, 17, 3, 3, dtype=torch.float64, interface=torch.float64, strength=True, hidden=13
    ),
    "small": Configuration(33, 17, 3, 3),
    "wide": Configuration(16, 512, 2, 2),
    "narrow": Configuration(1024, 1, 2, 2),
    "in tiles": Configuration(4096, 40, 4, 4, strength=True),
    "in tiles, selected in tiles": Configuration(65536, 20, 4, 16),
    "in wide tiles": Configuration(256, 512, 16, 16),
}
