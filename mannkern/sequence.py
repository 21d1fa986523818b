"""MANN: whole episodes, step by step what looping its cell gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern import checks
from mannkern.cells import MANNCell, MANNState


class MANN(nn.Module):
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
        super().__init__()
        self.batch_first = batch_first
        self.cell = MANNCell(
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

    @property
    def output_size(self) -> int:
        """Width of a step's output: D + R W."""
        return self.cell.output_size

    def initial_state(self, batch_size: int) -> MANNState:
        """State of ``batch_size`` episodes before their first step."""
        return self.cell.initial_state(batch_size)

    def forward(self, input: Tensor, state: MANNState | None = None) -> tuple[Tensor, MANNState]:
        """input (T, B, F), state None for the initial one -> output (T, B, D + R W), state after the last step.

        With batch_first, (B, T, F) and (B, T, D + R W). T = 0 returns the state as it came.
        """
        checks.step_input(input, self.cell.input_size, self.cell.interface.weight, "BTF" if self.batch_first else "TBF")
        steps = input.unbind(1 if self.batch_first else 0)
        B = input.shape[0 if self.batch_first else 1]
        if state is None:
            state = self.cell.initial_state(B)
        outputs = []
        for x in steps:
            output, state, _ = self.cell.step(x, state)
            outputs.append(output)
        dim = 1 if self.batch_first else 0
        if not outputs:
            return input.new_empty((B, 0, self.output_size) if self.batch_first else (0, B, self.output_size)), state
        return torch.stack(outputs, dim), state

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"
