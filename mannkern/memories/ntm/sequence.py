"""NTM: an NTMCell over whole sequences."""

from __future__ import annotations

import torch
from torch import nn

from mannkern.memories.ntm.cell import NTMCell
from mannkern.memories.sequence import MemorySequence


class NTM(MemorySequence):
    """An NTMCell over the T steps of a sequence, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.NTMCell`'s, and ``batch_first`` for inputs and outputs (B, T, ·) in place of
    (T, B, ·). Its parameters are those of its ``cell``.
    """

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
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        cell = NTMCell(
            input_size,
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
        super().__init__(cell, batch_first=batch_first)
