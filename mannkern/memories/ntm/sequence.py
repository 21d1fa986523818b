"""NTM: an NTMCell over whole sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mannkern.memories.ntm.cell import NTMCell, NTMState
from mannkern.memories.sequence import MemorySequence, build_cells, of_cell


class NTM(MemorySequence[NTMState]):
    """An NTMCell over the T steps of a sequence, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.NTMCell`'s, and those that torch.nn.LSTM has beside LSTMCell's. The third by
    position is ``memory_slots``, where torch.nn.LSTM has ``num_layers``.

    batch_first: inputs and outputs are (B, T, ·) in place of (T, B, ·)
    num_layers:  layers with a memory each. A layer sees the outputs of the layer below, and the state is a tuple of the
                 layers' states where there are several
    dropout:     the probability with which a number between two layers is set to 0 in training

    Its parameters are those of its ``cell``, the lowest layer's, and of ``upper_layers``.

    >>> ntm = mannkern.NTM(input_size=9, hidden_size=100)
    >>> outputs, state = ntm(torch.randn(41, 64, 9))  # 41 steps of 64 sequences
    >>> outputs.shape, state.memory.shape
    (torch.Size([41, 64, 120]), torch.Size([64, 128, 20]))
    """

    if TYPE_CHECKING:
        cell: NTMCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int = 128,
        memory_width: int = 20,
        num_read_heads: int = 1,
        num_write_heads: int = 1,
        shift_range: int = 1,
        *,
        controller: str | nn.Module = "lstm",
        memory_init: float | str = 1e-6,
        batch_first: bool = False,
        num_layers: int = 1,
        dropout: float = 0.0,
        backend: str | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        def build(size: int) -> NTMCell:
            return NTMCell(
                size,
                hidden_size,
                memory_slots,
                memory_width,
                num_read_heads,
                num_write_heads,
                shift_range,
                controller=controller,
                memory_init=memory_init,
                backend=backend,
                device=device,
                dtype=dtype,
            )

        cells = build_cells(build, input_size, num_layers, controller)
        super().__init__(*cells, batch_first=batch_first, dropout=dropout)

    num_read_heads: int = of_cell("num_read_heads")
    num_write_heads: int = of_cell("num_write_heads")
    shift_range: int = of_cell("shift_range")
