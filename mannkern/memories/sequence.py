"""A cell over the T steps of an episode: one operation if the backend fuses episodes, else a loop over the cell."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mannkern.backends import choose
from mannkern.memories.cell import MemoryCell
from mannkern.memories.checks import check_input
from mannkern.memories.ends import check_lengths, check_reset, is_longest_first, join, reorder, select, split, start_of
from mannkern.memories.episode import has_hooks, is_plain, pack_weights, starts_plain

Input = TypeVar("Input", Tensor, PackedSequence)


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

    def forward(
        self, input: Input, state: Any = None, *, lengths: Tensor | list[int] | None = None, reset: Tensor | None = None
    ) -> tuple[Input, Any]:
        """input (T, B, F), state None for the initial one -> output (T, B, D + R W), state after the last step.

        With batch_first, (B, T, F) and (B, T, D + R W). T = 0 returns the state as it came.

        input may be a PackedSequence, as ``pack_padded_sequence`` and ``pack_sequence`` of torch.nn.utils.rnn return
        it, sorted or not. Then the output is packed likewise, and the state has the order of the batch before packing,
        as of torch.nn.LSTM; batch_first does not count.

        lengths: (B,), int64 or a list of ints from 0 to T: the steps of each episode. Its state stops behind its last
                 step; outputs behind that are 0, inputs there may be anything, and no gradient comes from them.
        reset:   (T, B), with batch_first (B, T), bool: before a step where it is True the episode starts anew from
                 ``initial_state``, as trajectories in reinforcement learning do. No gradient goes back through it,
                 except to a learned initial memory. It does not count behind an episode's end.

        Raises ValueError or TypeError for an argument that does not fit, naming it.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError(f"lengths: got {type(lengths).__name__}, need None: a PackedSequence has its own")
            return self._run_packed(input, state, reset)
        cell, letters = self.cell, "BT" if self.batch_first else "TB"
        check_input(input, cell.input_size, cell.any_parameter(), letters + "F")
        reset = check_reset(reset, (input.shape[0], input.shape[1]), letters, input.device)
        if self.batch_first:
            input, reset = input.transpose(0, 1), None if reset is None else reset.t()
        T, B, _ = input.shape
        output, state = self._run(input, state, check_lengths(lengths, T, B, input.device), reset)
        return output.transpose(0, 1) if self.batch_first else output, state

    def _run(self, input: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Any]:
        """Checked input (T, B, F), lengths (B,) and reset (T, B) -> outputs (T, B, D + R W), last state."""
        cell, B = self.cell, input.shape[1]
        state = cell.initial_state(B) if state is None else cell.check_state(state, B)
        if not self._can_fuse(input, lengths, reset):
            return self._loop(input, state, lengths, reset)
        weights = pack_weights(cell)
        if lengths is None or is_longest_first(lengths):
            return self._in_batch_chunks(input, weights, state, lengths, reset)
        order = lengths.argsort(descending=True, stable=True)
        back, reset = order.argsort(), None if reset is None else reset[:, order]
        sorted_state = reorder(state, order)
        output, state = self._in_batch_chunks(input[:, order], weights, sorted_state, lengths[order], reset)
        return output[:, back], reorder(state, back)

    def _in_batch_chunks(
        self, input: Tensor, weights: tuple[Tensor, ...], state: Any, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Any]:
        """The fused episode; for a gradient in eager mode, on chunks of the batch, one after the other.

        The operation itself goes through a batch in the same chunks. But what it saves of a large batch are blocks that
        malloc gets from the system, cleared, at every call; those of a chunk it keeps, which saves 6% of a training
        step (docs/facts.md). torch.compile sees one call, because the number of calls would be a constant to it.
        """
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.cell.fused_episode(input, weights, state, lengths, reset)
        size, B = 64 * max(2, torch.get_num_threads()), input.shape[1]
        if size >= B:
            return self.cell.fused_episode(input, weights, state, lengths, reset)
        count = -(-B // size)
        nothing = [None] * count
        chunks = zip(
            input.tensor_split(count, 1),
            split(state, count),
            nothing if lengths is None else lengths.tensor_split(count),
            nothing if reset is None else reset.tensor_split(count, 1),
            strict=True,
        )
        outputs, states = zip(*(self.cell.fused_episode(x, weights, *rest) for x, *rest in chunks), strict=True)
        return torch.cat(outputs, 1), join(states)

    def _run_packed(self, input: PackedSequence, state: Any, reset: Tensor | None) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, back = input
        padded, lengths = pad_packed_sequence(
            PackedSequence(data, batch_sizes)
        )  # the longest first, as they are packed
        check_input(padded, self.cell.input_size, self.cell.any_parameter(), "TBF")
        T, B, _ = padded.shape
        reset = check_reset(reset, (T, B), "TB", padded.device)
        state = None if state is None else self.cell.check_state(state, B)
        if reset is not None and order is not None:
            reset = reset[:, order]
        output, state = self._run(padded, reorder(state, order), lengths.to(padded.device), reset)
        packed = pack_padded_sequence(output, lengths)
        return PackedSequence(packed.data, batch_sizes, order, back), reorder(state, back)

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

    def _loop(
        self, input: Tensor, state: Any, lengths: Tensor | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        outputs, cell, (T, B, _) = [], self.cell, input.shape
        whole_call = has_hooks(cell) or type(cell).forward is not MemoryCell.forward or "forward" in cell.__dict__
        start = None if reset is None else start_of(cell, B)
        runs = None if lengths is None else torch.arange(T, device=lengths.device).unsqueeze(1) < lengths
        if runs is not None:  # padding may be NaN, which a gradient of zero would not stop
            input = torch.where(runs.unsqueeze(2), input, 0)
        for t, x in enumerate(input):
            before = state if reset is None else select(reset[t], start, state)
            output, after = cell(x, before) if whole_call else cell.step(x, before)[:2]
            if runs is None:
                state = after
            else:
                output, state = torch.where(runs[t].unsqueeze(1), output, 0), select(runs[t], after, state)
            outputs.append(output)
        empty = input.new_empty(0, B, self.output_size)
        return torch.stack(outputs) if outputs else empty, state

    def _can_fuse(self, input: Tensor, lengths: Tensor | None, reset: Tensor | None) -> bool:
        cell = self.cell
        if (
            not is_plain(cell)
            or cell.interface.weight.dtype not in (torch.float32, torch.float64)
            or input.shape[0] == 0
        ):
            return False
        backend, is_whole = choose(cell.family, cell.backend, input.device), lengths is None and reset is None
        return (
            backend.fuses_episodes
            and (is_whole or (backend.fuses_lengths and (reset is None or starts_plain(cell))))
            and not torch.is_autocast_enabled(input.device.type)
            and not torch._C._are_functorch_transforms_active()
        )

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"
