"""What an experiment changes of an NTM: how sharp its heads are at first, and how far they stay where they are."""

from __future__ import annotations

import math

import torch
from torch import nn

from mannkern.memories.ntm.cell import NTMCell
from mannkern.memories.ntm.interface import interface_sizes


def start_heads(core: nn.Module, sharpness: float | None, gate: float | None) -> None:
    """Let the heads of an NTM start with this sharpness and gate, as far as their biases say; None changes nothing.

    sharpness: above 1. With the usual bias of 0 it is 1 + ln 2 = 1.7. A read head that waits for the copy may then
               learn to lose a little of its weight in each step and to sharpen at the end, which serves for no longer
               sequences than those of training.
    gate:      between 0 and 1, the part of the weights that content gives, before the shift. With the usual bias of 0
               it is 0.5, so that a head forgets where it was within a few steps, before it has learned to move. With
               less it stays, as an LSTM with a bias of its forget gate remembers.
    """
    cell = core.get_submodule("cell")
    assert isinstance(cell, NTMCell)
    H, V = cell.num_read_heads + cell.num_write_heads, cell.num_write_heads
    sizes = interface_sizes(H, V, cell.memory_width, 2 * cell.shift_range + 1)
    with torch.no_grad():
        _, _, _, gates, _, sharpnesses, _ = cell.get_parameter("interface.bias").split(sizes)
        if gate is not None:
            gates.fill_(math.log(gate / (1 - gate)))
        if sharpness is not None:
            sharpnesses.fill_(math.log(math.expm1(sharpness - 1)))
