"""``MemorySequence``, the base class of MANN and NTM: cells over the T steps of an episode, in one or more layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mannkern.backends import check_name
from mannkern.integers import check_integer
from mannkern.memories.cell import MemoryCell, State
from mannkern.memories.checks import check_input, check_weights
from mannkern.memories.ends import check_lengths, check_reset
from mannkern.memories.episode import has_hooks
from mannkern.memories.layer import run
from mannkern.memories.state import add_batch, drop_batch

Input = TypeVar("Input", Tensor, PackedSequence)
Cell = TypeVar("Cell", bound=MemoryCell[Any])


class Trace(NamedTuple):
    """An episode step by step: outputs (T, B, D + R W), read weights (T, B, R, N), write weights (T, B, heads, N)."""

    outputs: Tensor
    read_weights: Tensor
    write_weights: Tensor


def of_cell(name: str) -> Any:
    """An attribute of a sequence that is its cell's."""
    return property(lambda sequence: getattr(sequence.cell, name), doc=f"``{name}`` of the cell.")


def build_cells(
    build: Callable[[int], Cell], input_size: int, num_layers: int, controller: str | nn.Module
) -> list[Cell]:
    """The cells of all layers, the lowest first; build: input size -> cell. Each layer sees the output below it."""
    check_integer("num_layers", num_layers)
    if num_layers > 1 and isinstance(controller, nn.Module):
        raise ValueError(
            f"num_layers: got {num_layers} beside a controller of your own, need 1: layers share no module"
        )
    cells = [build(input_size)]
    while len(cells) < num_layers:
        cells.append(build(cells[-1].output_size))
    return cells


class MemorySequence(nn.Module, Generic[State]):
    """A memory cell over the T steps of an episode. It gives, step by step, what a loop over the cell gives.

    cell: any :class:`mannkern.memories.cell.MemoryCell`; the sequence's parameters are the cell's. batch_first: inputs
    and outputs are (B, T, ·) in place of (T, B, ·). upper_cells: those of further layers, each of which sees the output
    of the layer below. dropout: the probability with which a number of these outputs is set to 0 in training.
    """

    def __init__(
        self, cell: MemoryCell[State], *upper_cells: MemoryCell[State], batch_first: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not isinstance(batch_first, bool):
            raise TypeError(f"batch_first: got {type(batch_first).__name__}, need True or False")
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout: got {dropout!r}, need a number from 0 to 1")
        if dropout > 0 and not upper_cells:
            warnings.warn(f"dropout: got {dropout} with num_layers = 1; it acts between layers alone", stacklevel=3)
        self.batch_first = batch_first
        self.num_layers = 1 + len(upper_cells)
        self.dropout = float(dropout)
        self.cell = cell
        self.upper_layers: Any = ()
        if upper_cells:
            self.upper_layers = nn.ModuleList(MemorySequence(upper, batch_first=batch_first) for upper in upper_cells)

    input_size: int = of_cell("input_size")
    hidden_size: int = of_cell("hidden_size")
    memory_slots: int = of_cell("memory_slots")
    memory_width: int = of_cell("memory_width")
    memory_init: float | str = of_cell("memory_init")
    output_size: int = of_cell("output_size")

    @property
    def backend(self) -> str | None:
        """``backend`` of the cells, which may be set."""
        return self.cell.backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        check_name(name)
        for cell in self.cells:
            cell.backend = name

    @property
    def cells(self) -> list[MemoryCell[State]]:
        """The cells of all layers, the lowest first."""
        return [self.cell, *(layer.cell for layer in self.upper_layers)]

    def reset_parameters(self) -> None:
        """Draw the parameters of all cells again."""
        for cell in self.cells:
            cell.reset_parameters()

    def initial_state(self, batch_size: int) -> State:
        """State of ``batch_size`` episodes before their first step; with more than one layer a tuple of the layers'."""
        states: Any = tuple(cell.initial_state(batch_size) for cell in self.cells)
        return states if self.upper_layers else states[0]

    def forward(
        self,
        input: Input,
        state: State | None = None,
        *,
        lengths: Tensor | list[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Input, State]:
        """input (T, B, F), state None for the initial one -> output (T, B, D + R W), state after the last step.

        With batch_first, (B, T, F) and (B, T, D + R W). An input (T, F) is one episode's: output, state and reset have
        no B then. With more than one layer the state is a tuple of the layers' states. T = 0 returns the state as it
        came.

        input may be a PackedSequence, as ``pack_padded_sequence`` and ``pack_sequence`` of torch.nn.utils.rnn return
        it, sorted or not. Then the output is packed likewise, and the state has the order of the batch before packing,
        as of torch.nn.LSTM.

        lengths: (B,), int64 or a list of ints from 0 to T: the steps of each episode. Its state stops behind its last
                 step; outputs behind that are 0, inputs there may be anything, and no gradient comes from them. The
                 state after a length of 0 is the one at the start, so a controller of your own needs a known one, as
                 for ``reset``. On a GPU the values of lengths are not read, so that this is not checked.
        reset:   (T, B), with batch_first (B, T), bool: before a step where it is True the episode starts anew from
                 ``initial_state``, as trajectories in reinforcement learning do. No gradient goes back through it,
                 except to a learned initial memory. It does not count behind an episode's end. A controller of
                 your own, other than a GRUCell or RNNCell, needs a method ``initial_state(batch_size)``: otherwise its
                 state at the start is not known, and it is refused.

        Raises ValueError or TypeError for an argument that does not fit, naming it.
        """
        if isinstance(input, PackedSequence):
            return self._run_packed(input, state, lengths, reset)
        if isinstance(input, Tensor) and input.dim() == 2:
            batch = 0 if self.batch_first else 1
            reset = reset.unsqueeze(batch) if isinstance(reset, Tensor) else reset
            batched = input.unsqueeze(batch)
            output, last = MemorySequence.forward(self, batched, add_batch(state), lengths=lengths, reset=reset)
            return output.squeeze(batch), drop_batch(last)
        if not self.upper_layers:
            return self._run_lowest(input, state, lengths, reset)
        first, *others = self._layer_states(state)
        output, last = self._run_lowest(input, first, lengths, reset)
        states: Any = [last]
        for layer, layer_state in zip(self.upper_layers, others, strict=True):
            seen = F.dropout(output, self.dropout, self.training)
            output, last = layer(seen, layer_state, lengths=lengths, reset=reset)
            states.append(last)
        return output, tuple(states)  # type: ignore[return-value]

    if TYPE_CHECKING:
        __call__ = forward

    def _layer_states(self, state: Any) -> Any:
        if state is None:
            return [None] * self.num_layers
        if type(state) not in (tuple, list) or len(state) != self.num_layers:
            got = f"{len(state)} states" if type(state) in (tuple, list) else type(state).__name__
            raise TypeError(f"state: got {got}, need a tuple of {self.num_layers}, one for each layer")
        return state

    def _run_lowest(self, input: Tensor, state: Any, lengths: Any, reset: Any) -> tuple[Tensor, Any]:
        """The lowest layer on input (T, B, F), or (B, T, F) with batch_first."""
        cell, letters = self.cell, "BT" if self.batch_first else "TB"
        check_input(input, cell.input_size, cell.any_parameter(), letters + "F")
        check_weights(cell, input)
        reset = check_reset(reset, (input.shape[0], input.shape[1]), letters, input.device)
        if self.batch_first:
            input, reset = input.transpose(0, 1), None if reset is None else reset.t()
        T, B, _ = input.shape
        output, state = run(cell, input, state, check_lengths(lengths, T, B, input.device), reset)
        if self.batch_first:
            output = output.transpose(0, 1)
            output = output.contiguous() if has_hooks(self) else output  # FSDP2, a hook, warns of views
        return output, state

    def _run_packed(self, input: PackedSequence, state: Any, lengths: Any, reset: Any) -> tuple[PackedSequence, Any]:
        if lengths is not None:
            raise ValueError(f"lengths: got {type(lengths).__name__}, need None: a PackedSequence has its own")
        _, batch_sizes, order, back = input
        padded, own = pad_packed_sequence(input, batch_first=self.batch_first)  # in the order before packing
        output, state = MemorySequence.forward(self, padded, state, lengths=own.to(padded.device), reset=reset)
        if order is not None:
            output, own = output.index_select(0 if self.batch_first else 1, order), own[order.cpu()]
        packed = pack_padded_sequence(output, own, batch_first=self.batch_first)
        return PackedSequence(packed.data, batch_sizes, order, back), state

    @torch.no_grad()
    def trace(self, input: Tensor, state: Any = None) -> Trace:
        """Outputs, and the weights over the slots at every step of input (T, B, F), for pictures; without gradients.

        With batch_first, (B, T, ...) in place of (T, B, ...). Of the lowest layer, where there are several. Raises
        ValueError or TypeError for an input or a state that does not fit.
        """
        cell, time = self.cell, 1 if self.batch_first else 0
        check_input(input, cell.input_size, cell.any_parameter(), "BTF" if self.batch_first else "TBF")
        B = input.shape[1 - time]
        if self.upper_layers:
            state = self._layer_states(state)[0]
        state = cell.initial_state(B) if state is None else cell.check_state(state, B)
        written = getattr(state, "write_weights", state.read_weights)
        steps = [(input.new_empty(B, cell.output_size), state.read_weights, written)] * (not input.shape[time])
        for x in input.unbind(time):
            output, state, write_weights = cell.step(x, state)
            steps.append((output, state.read_weights, write_weights))
        outputs, reads, writes = (torch.stack(parts, time) for parts in zip(*steps, strict=True))
        return Trace(*(x.narrow(time, 0, input.shape[time]) for x in (outputs, reads, writes)))

    def extra_repr(self) -> str:
        layers = f", num_layers={self.num_layers}, dropout={self.dropout}" if self.num_layers > 1 else ""
        return f"batch_first={self.batch_first}{layers}"
