"""One-shot classification of an episode: a MANN, one with the NTM's addressing, or a network without memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern import MANN, NTM


class EpisodeClassifier(nn.Module):
    """Class of each step of an episode from inputs ``[x_t, y_{t-1}]`` (Santoro et al. 2016, section 4).

    input_size F, num_classes C. memory: "mann"; "ntm", the same with the NTM's addressing in place of LRUA's and as
    many write heads as read heads; or without memory "lstm", a torch.nn.LSTM of the same hidden size, and
    "feedforward", a tanh layer, which sees one step alone: the paper's baselines.
    The other arguments are :class:`mannkern.MANNCell`'s; hidden_size 200 and the memory's sizes are the paper's.
    least_used, decay and key_strength are LRUA's alone. The head starts Xavier-uniform with zero bias.

    Raises ValueError for another ``memory``.
    """

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        *,
        memory: str = "mann",
        hidden_size: int = 200,
        memory_slots: int = 128,
        memory_width: int = 40,
        num_reads: int = 4,
        controller: str = "lstm",
        least_used: str = "shared",
        decay: float = 0.99,
        key_strength: bool = False,
        memory_init: float | str = 1e-6,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.recurrent: nn.Module
        if memory == "mann":
            self.recurrent = MANN(
                input_size,
                hidden_size,
                memory_slots,
                memory_width,
                num_reads,
                controller=controller,
                least_used=least_used,
                decay=decay,
                key_strength=key_strength,
                memory_init=memory_init,
                backend=backend,
            )
            width = self.recurrent.output_size
        elif memory == "ntm":
            self.recurrent = NTM(
                input_size,
                hidden_size,
                memory_slots,
                memory_width,
                num_reads,
                num_reads,
                controller=controller,
                memory_init=memory_init,
                backend=backend,
            )
            width = self.recurrent.output_size
        elif memory == "lstm":
            self.recurrent, width = nn.LSTM(input_size, hidden_size), hidden_size
        elif memory == "feedforward":
            self.recurrent, width = nn.Sequential(nn.Linear(input_size, hidden_size), nn.Tanh()), hidden_size
        else:
            raise ValueError(f"memory: got {memory!r}, need 'mann', 'ntm', 'lstm' or 'feedforward'")
        self.head = nn.Linear(width, num_classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F) -> logits (T, B, C)."""
        output = self.recurrent(inputs)
        return self.head(output if isinstance(output, Tensor) else output[0])

    @torch.no_grad()
    def trace(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """inputs (T, B, F) -> logits (T, B, C), read weights and write weights (T, B, R, N): what a picture shows.

        Raises TypeError where there is no memory.
        """
        if not isinstance(self.recurrent, (MANN, NTM)):
            raise TypeError("trace: needs memory='mann' or 'ntm', others have no weights over slots")
        cell = self.recurrent.cell
        state = cell.initial_state(inputs.shape[1])
        outputs, reads, writes = [], [], []
        for x in inputs:
            output, state, *write_weights = cell.step(x, state)
            outputs.append(output)
            reads.append(state.read_weights)
            writes.append(write_weights[0] if write_weights else state.write_weights)
        return self.head(torch.stack(outputs)), torch.stack(reads), torch.stack(writes)
