"""MANN: a MANNCell over whole episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mannkern.memories.lrua.cell import MANNCell, MANNState
from mannkern.memories.sequence import MemorySequence, build_cells, of_cell


class MANN(MemorySequence[MANNState]):
    """A MANNCell over the T steps of an episode, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.MANNCell`'s, and those that torch.nn.LSTM has beside LSTMCell's. The third by
    position is ``memory_slots``, where torch.nn.LSTM has ``num_layers``.

    batch_first: inputs and outputs are (B, T, ·) in place of (T, B, ·)
    num_layers:  layers with a memory each. A layer sees the outputs of the layer below, and the state is a tuple of the
                 layers' states where there are several
    dropout:     the probability with which a number between two layers is set to 0 in training

    Its parameters are those of its ``cell``, the lowest layer's, and of ``upper_layers``.

    >>> mann = mannkern.MANN(input_size=405, hidden_size=200)
    >>> outputs, state = mann(torch.randn(50, 16, 405))  # 50 steps of 16 episodes
    >>> outputs.shape, state.memory.shape
    (torch.Size([50, 16, 360]), torch.Size([16, 128, 40]))
    """

    if TYPE_CHECKING:
        cell: MANNCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int = 128,
        memory_width: int = 40,
        num_reads: int = 4,
        *,
        controller: str | nn.Module = "lstm",
        num_least_used: int | None = None,
        least_used: str = "shared",
        decay: float = 0.99,
        write: str = "add",
        key_strength: bool = False,
        memory_init: float | str = 1e-6,
        batch_first: bool = False,
        num_layers: int = 1,
        dropout: float = 0.0,
        backend: str | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        def build(size: int) -> MANNCell:
            return MANNCell(
                size,
                hidden_size,
                memory_slots,
                memory_width,
                num_reads,
                controller=controller,
                num_least_used=num_least_used,
                least_used=least_used,
                decay=decay,
                write=write,
                key_strength=key_strength,
                memory_init=memory_init,
                backend=backend,
                device=device,
                dtype=dtype,
            )

        cells = build_cells(build, input_size, num_layers, controller)
        super().__init__(*cells, batch_first=batch_first, dropout=dropout)

    num_reads: int = of_cell("num_reads")
    num_least_used: int = of_cell("num_least_used")
    least_used: str = of_cell("least_used")
    decay: float = of_cell("decay")
    write: str = of_cell("write")
    key_strength: bool = of_cell("key_strength")
