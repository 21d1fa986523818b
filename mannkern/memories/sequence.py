"""A cell over the T steps of an episode: one operation if the backend fuses episodes, else a loop over the cell."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.backends import choose
from mannkern.integers import check_integer
from mannkern.memories.cell import MemoryCell, State
from mannkern.memories.checks import check_input
from mannkern.memories.episode import has_hooks, is_plain, pack_weights
from mannkern.memories.export import exported_loop, is_dynamic
from mannkern.memories.state import add_batch, drop_batch

_THREADS = torch.get_num_threads()  # a constant for torch.compile, which cannot trace the call


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
    backend: str | None = of_cell("backend")
    output_size: int = of_cell("output_size")

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

    def forward(self, input: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """input (T, B, F), state None for the initial one -> output (T, B, D + R W), state after the last step.

        With batch_first, (B, T, F) and (B, T, D + R W). An input (T, F) is one episode's: output and state have no B
        then. With more than one layer the state is a tuple of the layers' states. T = 0 returns the state as it came.
        """
        if isinstance(input, Tensor) and input.dim() == 2:
            batch = 0 if self.batch_first else 1
            output, last = MemorySequence.forward(self, input.unsqueeze(batch), add_batch(state))
            return output.squeeze(batch), drop_batch(last)
        if not self.upper_layers:
            return self._run_layer(input, state)
        first, *others = self._layer_states(state)
        output, last = self._run_layer(input, first)
        states: Any = [last]
        for layer, layer_state in zip(self.upper_layers, others, strict=True):
            output, last = layer(F.dropout(output, self.dropout, self.training), layer_state)
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

    def _run_layer(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The lowest layer on input (T, B, F), or (B, T, F) with batch_first."""
        cell = self.cell
        check_input(input, cell.input_size, cell.any_parameter(), "BTF" if self.batch_first else "TBF")
        if self.batch_first:
            input = input.transpose(0, 1)
        B = input.shape[1]
        if state is not None:
            state = cell.check_state(state, B)
        elif input.shape[0] == 0 or not self._calls_cell():
            state = cell.initial_state(B)  # else the cell's first call makes it: only there are sharded weights whole
        output, state = self._in_batch_chunks(input, state) if self._can_fuse(input) else self._loop(input, state)
        if self.batch_first:
            output = output.transpose(0, 1)
            output = output.contiguous() if has_hooks(self) else output  # FSDP2, a hook, warns of views
        return output, state

    @torch.no_grad()
    def trace(self, input: Tensor, state: Any = None) -> Trace:
        """Outputs, and the weights over the slots at every step of input (T, B, F), for pictures; without gradients.

        Of the lowest layer, where there are several.
        """
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
        step = cell if self._calls_cell() else cell.step
        if is_dynamic(input.shape[0]):
            return exported_loop(step, input, cell.initial_state(input.shape[1]) if state is None else state)
        for x in input:
            output, state = step(x, state)[:2]
            outputs.append(output)
        empty = input.new_empty(0, input.shape[1], self.output_size)
        return torch.stack(outputs) if outputs else empty, state

    def _calls_cell(self) -> bool:
        """Whether the loop calls the cell as a module, for its hooks or a forward of the user's own."""
        cell = self.cell
        return has_hooks(cell) or type(cell).forward is not MemoryCell.forward or "forward" in cell.__dict__

    def _can_fuse(self, input: Tensor) -> bool:
        cell = self.cell
        return (
            is_plain(cell)
            and cell.interface.weight.dtype in (torch.float32, torch.float64)
            and input.shape[0] > 0
            and choose(cell.family, cell.backend, input.device).fuses_episodes
            and not torch.is_autocast_enabled(input.device.type)
            and not torch._C._are_functorch_transforms_active()
        )

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
        layers = f", num_layers={self.num_layers}, dropout={self.dropout}" if self.num_layers > 1 else ""
        return f"batch_first={self.batch_first}{layers}"


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
