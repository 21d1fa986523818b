"""A cell over the T steps of an episode: one operation if the backend fuses episodes, else a loop over the cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.backends import choose
from mannkern.memories.cell import MemoryCell
from mannkern.memories.checks import check_input
from mannkern.memories.episode import has_hooks, is_plain, pack_weights

_THREADS = torch.get_num_threads()  # a constant for torch.compile, which cannot trace the call


class Trace(NamedTuple):
    """An episode step by step: outputs (T, B, D + R W), read weights (T, B, R, N), write weights (T, B, heads, N)."""

    outputs: Tensor
    read_weights: Tensor
    write_weights: Tensor


class MemorySequence(nn.Module):
    """A memory cell over the T steps of an episode. It gives, step by step, what a loop over the cell gives.

    cell: any :class:`mannkern.memories.cell.MemoryCell`; the sequence's parameters are the cell's. batch_first: inputs
    and outputs are (B, T, ·) in place of (T, B, ·).
    """

    def __init__(self, cell: MemoryCell, *, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = cell

    @property
    def output_size(self) -> int:
        """Width of a step's output: D + R W."""
        return self.cell.output_size

    def initial_state(self, batch_size: int) -> Any:
        """State of ``batch_size`` episodes before their first step."""
        return self.cell.initial_state(batch_size)

    def forward(self, input: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """input (T, B, F), state None for the initial one -> output (T, B, D + R W), state after the last step.

        With batch_first, (B, T, F) and (B, T, D + R W). T = 0 returns the state as it came.
        """
        cell = self.cell
        check_input(input, cell.input_size, cell.any_parameter(), "BTF" if self.batch_first else "TBF")
        if self.batch_first:
            input = input.transpose(0, 1)
        B = input.shape[1]
        state = cell.initial_state(B) if state is None else cell.check_state(state, B)
        output, state = self._in_batch_chunks(input, state) if self._can_fuse(input) else self._loop(input, state)
        return output.transpose(0, 1) if self.batch_first else output, state

    @torch.no_grad()
    def trace(self, input: Tensor, state: Any = None) -> Trace:
        """Outputs, and the weights over the slots at every step of input (T, B, F), for pictures; without gradients."""
        state = self.cell.initial_state(input.shape[1]) if state is None else state
        outputs, reads, writes = [], [], []
        for x in input:
            output, state, write_weights = self.cell.step(x, state)
            outputs.append(output)
            reads.append(state.read_weights)
            writes.append(write_weights)
        return Trace(torch.stack(outputs), torch.stack(reads), torch.stack(writes))

    def _loop(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, cell = [], self.cell
        whole_call = has_hooks(cell) or type(cell).forward is not MemoryCell.forward or "forward" in cell.__dict__
        for x in input:
            output, state = cell(x, state) if whole_call else cell.step(x, state)[:2]
            outputs.append(output)
        empty = input.new_empty(0, input.shape[1], self.output_size)
        return torch.stack(outputs) if outputs else empty, state

    def _can_fuse(self, input: Tensor) -> bool:
        cell = self.cell
        return (
            is_plain(cell)
            and cell.interface.weight.dtype in (torch.float32, torch.float64)
            and input.shape[0] > 0
            and self._has_fused_episode(input)
            and not torch.is_autocast_enabled(input.device.type)
            and not torch._C._are_functorch_transforms_active()
        )

    def _has_fused_episode(self, input: Tensor) -> bool:
        """Whether the backend of a call computes episodes of the family as one operation."""
        return choose(self.cell.family, self.cell.backend, input.device).fuses_episodes

    def _in_batch_chunks(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The fused episode on chunks of the batch, one after the other.

        In one chunk, 1,024 episodes take up to 70% longer (docs/facts.md): they save so much for backward that the
        system takes the memory back after every call.
        """
        threads = _THREADS if torch.compiler.is_compiling() else torch.get_num_threads()
        size, B = 64 * max(2, threads), input.shape[1]
        weights = pack_weights(self.cell)
        if size >= B:
            return self.cell.fused_episode(input, weights, state)
        count = -(-B // size)
        inputs, states = input.tensor_split(count, 1), _split(state, count)
        chunks = [self.cell.fused_episode(x, weights, chunk) for x, chunk in zip(inputs, states, strict=True)]
        outputs, last = zip(*chunks, strict=True)
        return torch.cat(outputs, 1), _join(last)

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"


def _split(state: Any, count: int) -> list[Any]:
    """States of ``count`` chunks of the batch."""
    controllers = (
        zip(*(x.tensor_split(count) for x in state.controller), strict=True) if state.controller else [()] * count
    )
    return [type(state)(*part) for part in zip(controllers, *(x.tensor_split(count) for x in state[1:]), strict=True)]


def _join(states: tuple[Any, ...]) -> Any:
    controllers, *parts = zip(*states, strict=True)
    controller = tuple(torch.cat(x) for x in zip(*controllers, strict=True))
    return type(states[0])(controller, *(torch.cat(x) for x in parts))
