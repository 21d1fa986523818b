"""Cells: a controller beside an external memory, as natural in a loop as torch.nn.LSTMCell."""

from mannkern.cells.mann import MANNCell, MANNState
from mannkern.cells.ntm import NTMCell, NTMState

__all__ = ["MANNCell", "MANNState", "NTMCell", "NTMState"]
