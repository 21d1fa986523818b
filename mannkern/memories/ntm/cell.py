"""NTMCell: a controller beside a memory that heads address by content and by location."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer
from mannkern.memories import state as states
from mannkern.memories.cell import MemoryCell
from mannkern.memories.content import read
from mannkern.memories.episode import pack_state, saves_for_backward, split_last
from mannkern.memories.function import FastFunction
from mannkern.memories.ntm.functional import ntm_address, ntm_write
from mannkern.memories.ntm.interface import InterfaceVector, activate, interface_sizes
from mannkern.memories.ntm.ops.cell import NTMCellFunction, ntm_cell
from mannkern.memories.ntm.ops.episode import NTMEpisodeBFloat16Function, NTMEpisodeFunction
from mannkern.memories.ntm.ops.episode_recompute import NTMEpisodeRecomputeFunction
from mannkern.memories.step import can_fuse, is_fused_state, weights_of
from mannkern.memories.weight_gradients import gradients_of

_EPISODES: dict[str, type[FastFunction]] = {  # by the overload; "bfloat16" is "default" with products in it
    "default": NTMEpisodeFunction,
    "bfloat16": NTMEpisodeBFloat16Function,
    "recompute": NTMEpisodeRecomputeFunction,
}


@states.register_state
class NTMState(NamedTuple):
    """The state of an NTMCell between two steps. H = R + num_write_heads.

    controller:    (h, c), each (B, D), for an LSTM; () for a feed-forward one; what another one returned, at first None
    memory:        (B, N, W)
    read_weights:  (B, R, N), of the read heads
    write_weights: (B, H - R, N), of the write heads
    read:          (B, R, W), the read vectors
    """

    controller: Any
    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor
    read: Tensor

    def detach(self) -> NTMState:
        """The state without its history, for truncated backpropagation through time."""
        return states.detach(self)

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> NTMState:
        """The state on another device or in another dtype, which may also be passed as the first argument."""
        return states.to(self, device, dtype)


class NTMCell(MemoryCell[NTMState]):
    """One step of a Neural Turing Machine (Graves et al. 2014).

    The controller sees ``[x_t, r_{t-1}]``. One linear layer maps its hidden state to the interface vector of H = R +
    ``num_write_heads`` heads: key, strength (softplus), gate (sigmoid), shift (softmax) and sharpness (1 + softplus) of
    each, and erase (sigmoid) and add (tanh) of the write heads. The write heads act first, all at once, with
    :func:`mannkern.functional.ntm_address` and ``ntm_write``; then the read heads read the new memory.

    input_size:      F
    hidden_size:     D, units of the controller
    memory_slots:    N; the defaults of N and W are the paper's
    memory_width:    W
    num_read_heads:  R, at least 1
    num_write_heads: V, at least 1
    shift_range:     how far a head can move in a step, so that there are S = 2 shift_range + 1 shifts; 1 is the
                     paper's, and with 0 a head cannot move
    memory_init:     as in :class:`mannkern.MANNCell`. Reports on the copy task disagree about a constant (1e-6): in one
                     the NTM learns twice as fast, in another it never breaks the symmetry of the slots.
    controller, backend: as in :class:`mannkern.MANNCell`

    Weights start one-hot at slot 0; reads and the controller's state start at 0. Parameters are drawn as those of
    :class:`mannkern.MANNCell` are.

    Raises ValueError or TypeError for an argument out of range, naming it.

    >>> cell = mannkern.NTMCell(input_size=9, hidden_size=100)
    >>> output, state = cell(torch.randn(64, 9))
    >>> output.shape, state.write_weights.shape
    (torch.Size([64, 120]), torch.Size([64, 1, 128]))
    """

    family: ClassVar[str] = "ntm"
    episode_operation: ClassVar[str] = "ntm_episode"
    state_type: ClassVar[type[Any]] = NTMState
    state_letters: ClassVar[dict[str, str]] = {
        "memory": "BNW",
        "read_weights": "BRN",
        "write_weights": "BHN",
        "read": "BRW",
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int = 128,
        memory_width: int = 20,
        num_read_heads: int = 1,
        num_write_heads: int = 1,
        shift_range: int = 1,
        *,
        controller: str | nn.Module = "lstm",
        memory_init: float | str = 1e-6,
        backend: str | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("memory_slots", memory_slots),
            ("memory_width", memory_width),
            ("num_read_heads", num_read_heads),
            ("num_write_heads", num_write_heads),
        ):
            check_integer(name, size)
        check_integer("shift_range", shift_range, 0)
        H, S = num_read_heads + num_write_heads, 2 * shift_range + 1
        sizes = interface_sizes(H, num_write_heads, memory_width, S)
        super().__init__(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_read_heads,
            sum(sizes),
            controller,
            memory_init,
            backend,
            device,
            dtype,
        )
        self.num_read_heads = num_read_heads
        self.num_write_heads = num_write_heads
        self.shift_range = shift_range
        self._interface_sizes = sizes

    def sizes(self, batch_size: int) -> dict[str, int]:
        """The sizes of a state by their letters; H stands for the write heads alone."""
        return super().sizes(batch_size) | {"H": self.num_write_heads}

    def initial_state(self, batch_size: int) -> NTMState:
        """State of ``batch_size`` sequences before their first step, on the parameters' device, in their dtype.

        Beside half-precision parameters all but the controller's state is float32.
        """
        memory = self.first_memory(batch_size)
        B, W, R = batch_size, self.memory_width, self.num_read_heads
        weights = self.first_weights(memory, B, R), self.first_weights(memory, B, self.num_write_heads)
        return NTMState(self.first_controller_state(B), memory, *weights, memory.new_zeros(B, R, W))

    def interface_vector(self, hidden: Tensor) -> InterfaceVector:
        """Keys, strengths and so on of all heads, from the hidden state (B, D)."""
        V, W, S = self.num_write_heads, self.memory_width, 2 * self.shift_range + 1
        return activate(self.interface(hidden), self._interface_sizes, self.num_read_heads + V, V, W, S)

    def step(self, input: Tensor, state: NTMState) -> tuple[Tensor, NTMState, Tensor]:
        """One step without checks of input and state: output (B, D + R W), state, write weights (B, H - R, N)."""
        hidden, controller = self.run_controller(input, state.read, state.controller)
        *heads, erase, add = self.interface_vector(hidden)
        writing, reading = zip(*(x.split([self.num_write_heads, self.num_read_heads], 1) for x in heads), strict=True)
        write_weights = ntm_address(state.memory, state.write_weights, *writing, backend=self.backend)
        memory = ntm_write(state.memory, write_weights, erase, add, backend=self.backend)
        read_weights = ntm_address(memory, state.read_weights, *reading, backend=self.backend)
        new_read = read(read_weights, memory)
        output = torch.cat([hidden, new_read.flatten(1).to(hidden.dtype)], -1)
        return output, NTMState(controller, memory, read_weights, write_weights, new_read), write_weights

    def fused_step(self, input: Tensor, state: Any) -> tuple[Tensor, NTMState] | None:
        """A step as one operation; None where it takes none, or where the operation refuses the arguments."""
        weights = weights_of(self) if can_fuse(self, input) and is_fused_state(self, NTMState, state) else None
        if weights is None:
            return None
        controller, memory, read_weights, write_weights, read = state
        hidden, cell = controller or (None, None)
        tensors = (input, hidden, cell, memory, read_weights, write_weights, read, *weights)
        S = 2 * self.shift_range + 1
        try:
            if torch.is_grad_enabled():
                gradients = gradients_of(weights, memory)
                output, hidden, cell, *after, _ = NTMCellFunction.apply_fast(*tensors, S, True, *gradients)
            else:
                output, hidden, cell, *after, _ = ntm_cell["default"](*tensors, S, False)
        except RuntimeError:
            return None  # the checks say what is wrong
        return output, NTMState((hidden, cell) if controller else (), *after)

    def fused_episode(
        self,
        input: Tensor,
        weights: tuple[Tensor, ...],
        state: NTMState,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        bfloat16: bool = False,
    ) -> tuple[Tensor, NTMState]:
        """All steps of input (T, B, F) as one operation; see the base class."""
        output, cell = pack_state(self, state)
        fused = self.episode_on(input.device)
        assert fused is not None  # the caller has checked it
        outputs, memory, head_weights, c, *_ = _EPISODES["bfloat16" if bfloat16 else fused.overload].apply_fast(
            input,
            *weights,
            output,
            cell,
            state.memory,
            torch.cat([state.write_weights, state.read_weights], 1),
            lengths,
            reset,
            None if reset is None else self.first_memory(1)[0],
            self.num_write_heads,
            2 * self.shift_range + 1,
            saves_for_backward(),
        )
        hidden, new_read = split_last(outputs, output, lengths, state.read)
        write_weights, read_weights = head_weights.split([self.num_write_heads, self.num_read_heads], 1)
        weights_of_heads = read_weights.clone(), write_weights.clone()
        return outputs, NTMState((hidden, c) if state.controller else (), memory, *weights_of_heads, new_read)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, memory_slots={self.memory_slots}, "
            f"memory_width={self.memory_width}, num_read_heads={self.num_read_heads}, "
            f"num_write_heads={self.num_write_heads}, shift_range={self.shift_range}, "
            f"memory_init={self.memory_init!r}, backend={self.backend!r}"
        )
