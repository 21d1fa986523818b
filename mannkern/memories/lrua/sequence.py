"""MANN: a MANNCell over whole episodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.backends.cuda import runs_episode
from mannkern.memories.lrua.cell import MANNCell
from mannkern.memories.sequence import MemorySequence


class MANN(MemorySequence):
    """A MANNCell over the T steps of an episode, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.MANNCell`'s, and ``batch_first`` for inputs and outputs (B, T, ·) in place of
    (T, B, ·). Its parameters are those of its ``cell``.
    """

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
        key_strength: bool = False,
        memory_init: float | str = 1e-6,
        batch_first: bool = False,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        cell = MANNCell(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_reads,
            controller=controller,
            num_least_used=num_least_used,
            least_used=least_used,
            decay=decay,
            key_strength=key_strength,
            memory_init=memory_init,
            backend=backend,
            device=device,
            dtype=dtype,
        )
        super().__init__(cell, batch_first=batch_first)

    def _has_fused_episode(self, input: Tensor) -> bool:
        return runs_episode(self.cell.family, self.cell.backend) or super()._has_fused_episode(input)
