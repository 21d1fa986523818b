"""RingCell: a controller beside a ring buffer."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.memories.cell import MemoryCell
from mannkern.memories.state import register_state
from tests.memories.ring.functional import ring_read, ring_write


@register_state
class RingState(NamedTuple):
    """What a RingCell carries from step to step.

    controller: the controller's own state. memory (B, N, W), place (B, N) of the next write, one-hot,
    read_weights (B, R, N), read (B, R, W)
    """

    controller: Any
    memory: Tensor
    place: Tensor
    read_weights: Tensor
    read: Tensor


class RingCell(MemoryCell):
    """One step: the controller's value overwrites the oldest slot, then its keys read the new memory."""

    family: ClassVar[str] = "ring"
    state_type: ClassVar[type[Any]] = RingState
    state_letters: ClassVar[dict[str, str]] = {"memory": "BNW", "place": "BN", "read_weights": "BRN", "read": "BRW"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int = 16,
        memory_width: int = 8,
        num_reads: int = 1,
        *,
        controller: str | nn.Module = "lstm",
        memory_init: float | str = 0.0,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = [memory_width, num_reads * memory_width]  # value, keys
        super().__init__(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_reads,
            sum(sizes),
            controller,
            memory_init,
            backend,
            device,
            dtype,
        )
        self.num_reads = num_reads
        self._interface_sizes = sizes

    def initial_state(self, batch_size: int) -> RingState:
        """The state of ``batch_size`` episodes before their first step: slot 0 is written first."""
        memory = self.first_memory(batch_size)
        B, N, W, R = batch_size, self.memory_slots, self.memory_width, self.num_reads
        place = memory.new_zeros(B, N)
        place[:, 0] = 1
        controller = self.first_controller_state(B)
        return RingState(controller, memory, place, memory.new_zeros(B, R, N), memory.new_zeros(B, R, W))

    def step(self, input: Tensor, state: RingState) -> tuple[Tensor, RingState, Tensor]:
        """One step without checks of input and state: output (B, D + R W), state, write weights (B, 1, N)."""
        hidden, controller = self.run_controller(input, state.read, state.controller)
        value, keys = self.interface(hidden).split(self._interface_sizes, -1)
        memory = ring_write(state.memory, state.place, torch.tanh(value), backend=self.backend)
        read, weights = ring_read(memory, keys.unflatten(-1, state.read.shape[1:]), backend=self.backend)
        output = torch.cat([hidden, read.flatten(1).to(hidden.dtype)], -1)
        place = state.place.roll(1, -1)
        return output, RingState(controller, memory, place, weights, read), state.place.unsqueeze(1)
