"""What an experiment changes of an NTM: how sharp its heads are at first."""

from __future__ import annotations

import math

import torch
from torch import nn

from mannkern.memories.ntm.cell import NTMCell
from mannkern.memories.ntm.interface import interface_sizes


def start_sharpness(core: nn.Module, sharpness: float) -> None:
    """Let the heads of an NTM start with this sharpness, above 1, as far as their bias says.

    With the usual bias of 0 it is 1 + ln 2 = 1.7. A read head that waits for the copy may then learn to lose a little
    of its weight in each step and to sharpen at the end, which serves for no longer sequences than those of training.
    """
    cell = core.get_submodule("cell")
    assert isinstance(cell, NTMCell)
    H, V = cell.num_read_heads + cell.num_write_heads, cell.num_write_heads
    sizes = interface_sizes(H, V, cell.memory_width, 2 * cell.shift_range + 1)
    start = sum(sizes[:5])
    with torch.no_grad():
        cell.get_parameter("interface.bias")[start : start + sizes[5]] = math.log(math.expm1(sharpness - 1))
