"""Sequences in, bits out: an NTM, or an LSTM of the paper's kind, under a linear head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mannkern import NTM


class Trace(NamedTuple):
    """What a picture of an NTM at work shows.

    logits: (T, B, O);  read_weights: (T, B, Hr, N);  write_weights: (T, B, Hw, N)
    """

    logits: Tensor
    read_weights: Tensor
    write_weights: Tensor


class Transducer(nn.Module):
    """Logits of the bits of each step's output, for the tasks of Graves et al. (2014), section 4.

    input_size F, output_size O. memory: "ntm", or "lstm" for the baseline, a torch.nn.LSTM of ``lstm_layers`` layers of
    ``lstm_size`` units, without memory (3 layers and 256 units: the paper's for the copy task).
    The other arguments are :class:`mannkern.NTMCell`'s; their defaults are the paper's for the copy task.
    The head starts Xavier-uniform with zero bias.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        memory: str = "ntm",
        hidden_size: int = 100,
        memory_slots: int = 128,
        memory_width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        controller: str = "lstm",
        memory_init: float | str = 1e-6,
        backend: str | None = None,
        lstm_size: int = 256,
        lstm_layers: int = 3,
    ) -> None:
        super().__init__()
        self.recurrent: NTM | nn.LSTM
        if memory == "ntm":
            self.recurrent = NTM(
                input_size,
                hidden_size,
                memory_slots,
                memory_width,
                read_heads,
                write_heads,
                shift_range,
                controller=controller,
                memory_init=memory_init,
                backend=backend,
            )
            width = self.recurrent.output_size
        elif memory == "lstm":
            self.recurrent = nn.LSTM(input_size, lstm_size, lstm_layers)
            width = lstm_size
        else:
            raise ValueError(f"memory: got {memory!r}, need 'ntm' or 'lstm'")
        self.head = nn.Linear(width, output_size)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F) -> logits (T, B, O)."""
        output, _ = self.recurrent(inputs)
        return self.head(output)

    @torch.no_grad()
    def trace(self, inputs: Tensor) -> Trace:
        """inputs (T, B, F) -> logits and the weights over slots, step by step.

        Raises TypeError for the LSTM, which has none.
        """
        if not isinstance(self.recurrent, NTM):
            raise TypeError("trace: needs memory='ntm', an LSTM has no weights over slots")
        cell = self.recurrent.cell
        state = cell.initial_state(inputs.shape[1])
        outputs, reads, writes = [], [], []
        for x in inputs:
            output, state = cell(x, state)
            outputs.append(output)
            reads.append(state.read_weights)
            writes.append(state.write_weights)
        return Trace(self.head(torch.stack(outputs)), torch.stack(reads), torch.stack(writes))
