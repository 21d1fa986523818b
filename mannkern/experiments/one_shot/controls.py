"""What an experiment changes of a core: reads that stay hidden, and how sharply keys address at first."""

from __future__ import annotations

import math

import torch
from torch import nn

from mannkern.memories.cell import MemoryCell


def hide_reads(core: nn.Module) -> None:
    """Keep the controller of a core with a memory from seeing what was read: its weights for reads stay 0."""
    cell = getattr(core, "cell", None)
    if not isinstance(cell, MemoryCell):
        return
    name = "weight_ih" if isinstance(cell.controller, nn.LSTMCell) else "linear.weight"
    weight = cell.controller.get_parameter(name)
    with torch.no_grad():
        weight[:, cell.input_size :] = 0
    seen = torch.zeros_like(weight)
    seen[:, : cell.input_size] = 1
    weight.register_hook(lambda gradient: gradient * seen.to(gradient.device))


def start_strengths(core: nn.Module, strength: float) -> None:
    """Let the keys of a MANN with ``key_strength`` start with this strength, above 1, as far as their bias says.

    With the usual bias of 0 it is 1 + ln 2 = 1.7: a slot that equals the key gets at most e^1.7 = 5 times the weight of
    one that is unlike it, so that a read is nearly the mean of 128 slots.
    """
    bias = core.get_parameter("cell.interface.bias")
    with torch.no_grad():
        bias[-int(core.cell.num_reads) :] = math.log(math.expm1(strength - 1))  # type: ignore[union-attr, arg-type]
