"""MANNCell: a controller beside a memory that LRUA addresses."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer
from mannkern.memories import state as states
from mannkern.memories.cell import MemoryCell
from mannkern.memories.checks import check_decay, check_least_used, check_number_of_slots
from mannkern.memories.episode import pack_state, saves_for_backward, split_last
from mannkern.memories.function import FastFunction
from mannkern.memories.lrua.functional import lrua_step
from mannkern.memories.lrua.interface import InterfaceVector, activate, interface_sizes
from mannkern.memories.lrua.ops.cell import MANNCellFunction, mann_cell
from mannkern.memories.lrua.ops.episode import MANNEpisodeBFloat16Function, MANNEpisodeFunction
from mannkern.memories.lrua.ops.episode_persistent import MANNEpisodePersistentFunction
from mannkern.memories.lrua.ops.episode_recompute import MANNEpisodeRecomputeFunction
from mannkern.memories.step import can_fuse, is_fused_state, weights_of
from mannkern.memories.weight_gradients import gradients_of

_EPISODES: dict[str, type[FastFunction]] = {  # by the overload; "bfloat16" is "default" with products in it
    "default": MANNEpisodeFunction,
    "bfloat16": MANNEpisodeBFloat16Function,
    "recompute": MANNEpisodeRecomputeFunction,
    "persistent": MANNEpisodePersistentFunction,
}


@states.register_state
class MANNState(NamedTuple):
    """The state of a MANNCell between two steps.

    controller:   (h, c), each (B, D), for an LSTM; () for a feed-forward one; what another one returned, at first None
    memory:       (B, N, W)
    read_weights: (B, R, N)
    usage:        (B, N)
    read:         (B, R, W), the read vectors
    """

    controller: Any
    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    read: Tensor

    def detach(self) -> MANNState:
        """The state without its history, for truncated backpropagation through time."""
        return states.detach(self)

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> MANNState:
        """The state on another device or in another dtype, which may also be passed as the first argument."""
        return states.to(self, device, dtype)


class MANNCell(MemoryCell[MANNState]):
    """One step of MANN, a memory-augmented neural network (Santoro et al. 2016) with LRUA addressing.

    The controller sees ``[x_t, r_{t-1}]``. One linear layer maps its hidden state to the interface vector: key (tanh),
    add (tanh) unless ``write="key"``, gate and, with ``key_strength``, strength (1 + softplus). The memory step is
    :func:`mannkern.functional.lrua_step`.

    input_size:     F
    hidden_size:    D, units of the controller
    memory_slots:   N; the defaults of N, W and R are the paper's
    memory_width:   W
    num_reads:      R, read heads
    controller:     "lstm" (torch.nn.LSTMCell), "feedforward" (one tanh layer), or a module: a torch.nn.LSTMCell,
                    GRUCell or RNNCell, or one called as ``controller(input (B, F + R W), state) -> (hidden (B, D),
                    state)``. The first state is what its method ``initial_state(batch_size)`` returns, or None
                    without that method. The states that it returns are tensors with B in front, also in tuples,
                    lists or dicts. ``device`` and ``dtype`` do not change a module
    num_least_used: n, by default min(R, N)
    least_used:     "shared" (the paper's rule) or "per_head" (docs/equations.md, least used)
    decay:          gamma; 0.99 is the paper's, the replications use 0.95
    write:          what a head writes: "add", a vector of its own, as the NTM has it, which lets a cell write another
                    thing than it looks for; or "key", the key itself, as the paper's equation of the write has it
    key_strength:   whether the cell learns a strength b for each key; the paper has none, so b = 1
    memory_init:    a constant (1e-6, as the replications start), "uniform" (drawn once within 1/sqrt(N + W) and part of
                    the state_dict) or "learned" (a parameter (N, W), drawn likewise)
    backend:        see :mod:`mannkern.functional`

    Parameters are drawn as those of torch.nn.LSTMCell, except that the two biases of the forget gate add up to 1
    (Jozefowicz et al. 2015). The interface is drawn Xavier-uniform with zero bias (Glorot and Bengio 2010), so that the
    keys of heads differ from the first step on and the write gates start half open.

    Raises ValueError or TypeError for an argument out of range, naming it.

    >>> cell = mannkern.MANNCell(input_size=405, hidden_size=200)
    >>> output, state = cell(torch.randn(16, 405))  # the first step of 16 episodes
    >>> output, state = cell(torch.randn(16, 405), state)
    >>> output.shape, state.read.shape
    (torch.Size([16, 360]), torch.Size([16, 4, 40]))
    """

    family: ClassVar[str] = "lrua"
    episode_operation: ClassVar[str] = "mann_episode"
    state_type: ClassVar[type[Any]] = MANNState
    state_letters: ClassVar[dict[str, str]] = {"memory": "BNW", "read_weights": "BRN", "usage": "BN", "read": "BRW"}

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
        write: str = "add",
        key_strength: bool = False,
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
            ("num_reads", num_reads),
        ):
            check_integer(name, size)
        n = min(num_reads, memory_slots) if num_least_used is None else num_least_used
        check_number_of_slots("num_least_used", n, memory_slots)
        check_least_used(least_used)
        check_decay(decay)
        if not isinstance(key_strength, bool):
            raise TypeError(f"key_strength: got {type(key_strength).__name__}, need True or False")
        if write not in ("add", "key"):
            raise ValueError(f"write: got {write!r}, need 'add' or 'key'")
        sizes = interface_sizes(num_reads, memory_width, key_strength)
        super().__init__(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_reads,
            sum(sizes) - (sizes[1] if write == "key" else 0),
            controller,
            memory_init,
            backend,
            device,
            dtype,
        )
        self.num_reads = num_reads
        self.num_least_used = n
        self.least_used = least_used
        self.decay = float(decay)
        self.write = write
        self.key_strength = key_strength
        self._interface_sizes = sizes

    def initial_state(self, batch_size: int) -> MANNState:
        """State of ``batch_size`` episodes before their first step, on the parameters' device, in their dtype.

        Beside half-precision parameters all but the controller's state is float32.
        """
        memory = self.first_memory(batch_size)
        B, W, R = batch_size, self.memory_width, self.num_reads
        read_weights, usage = self.first_weights(memory, B, R), self.first_weights(memory, B)
        return MANNState(self.first_controller_state(B), memory, read_weights, usage, memory.new_zeros(B, R, W))

    def interface_vector(self, hidden: Tensor) -> InterfaceVector:
        """Key, add, gate and strength of the hidden state (B, D)."""
        vector = self._with_adds(self.interface(hidden), -1)
        return activate(vector, self._interface_sizes, self.num_reads, self.memory_width)

    def _with_adds(self, x: Tensor, dim: int) -> Tensor:
        """An interface vector, or weights of one, with the keys a second time in place of adds if keys are written."""
        return torch.cat([x.narrow(dim, 0, self._read_size), x], dim) if self.write == "key" else x

    def step(self, input: Tensor, state: MANNState) -> tuple[Tensor, MANNState, Tensor]:
        """One step without checks of input and state: output (B, D + R W), state, write weights (B, R, N)."""
        hidden, controller = self.run_controller(input, state.read, state.controller)
        new = lrua_step(
            state.memory,
            state.read_weights,
            state.usage,
            *self.interface_vector(hidden),
            num_least_used=self.num_least_used,
            least_used=self.least_used,
            decay=self.decay,
            backend=self.backend,
        )
        output = torch.cat([hidden, new.read.flatten(1).to(hidden.dtype)], -1)
        return output, MANNState(controller, new.memory, new.read_weights, new.usage, new.read), new.write_weights

    def fused_step(self, input: Tensor, state: Any) -> tuple[Tensor, MANNState] | None:
        """A step as one operation; None where it takes none, or where the operation refuses the arguments."""
        weights = weights_of(self) if can_fuse(self, input) and is_fused_state(self, MANNState, state) else None
        if weights is None:
            return None
        controller, memory, read_weights, usage, read = state
        hidden, cell = controller or (None, None)
        tensors = (input, hidden, cell, memory, read_weights, usage, read, *weights)
        options = self.num_least_used, self.least_used == "per_head", self.decay, self.write == "key"
        try:
            if torch.is_grad_enabled():
                gradients = gradients_of(weights, memory)
                output, hidden, cell, *after, _, _ = MANNCellFunction.apply_fast(*tensors, *options, True, *gradients)
            else:
                output, hidden, cell, *after, _, _ = mann_cell["default"](*tensors, *options, False)
        except RuntimeError:
            return None  # the checks say what is wrong
        return output, MANNState((hidden, cell) if controller else (), *after)

    def fused_episode(
        self,
        input: Tensor,
        weights: tuple[Tensor, ...],
        state: MANNState,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        bfloat16: bool = False,
    ) -> tuple[Tensor, MANNState]:
        """All steps of input (T, B, F) as one operation; see the base class."""
        *controller, weight, bias = weights
        output, cell = pack_state(self, state)
        fused = self.episode_on(input.device)
        assert fused is not None  # the caller has checked it
        if fused.overload == "persistent" and cell is None:
            raise RuntimeError("controller: got one without c, need an LSTM for a MANN's episode as one kernel")
        outputs, memory, read_weights, usage, c, *_ = _EPISODES["bfloat16" if bfloat16 else fused.overload].apply_fast(
            input,
            *controller,
            self._with_adds(weight, 0),
            self._with_adds(bias, 0),
            output,
            cell,
            state.memory,
            state.read_weights,
            state.usage,
            lengths,
            reset,
            None if reset is None else self.first_memory(1)[0],
            self.num_least_used,
            self.least_used == "per_head",
            self.decay,
            saves_for_backward(),
        )
        hidden, read = split_last(outputs, output, lengths, state.read)
        return outputs, MANNState((hidden, c) if state.controller else (), memory, read_weights, usage, read)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, memory_slots={self.memory_slots}, "
            f"memory_width={self.memory_width}, num_reads={self.num_reads}, num_least_used={self.num_least_used}, "
            f"least_used={self.least_used!r}, decay={self.decay}, write={self.write!r}, "
            f"key_strength={self.key_strength}, "
            f"memory_init={self.memory_init!r}, backend={self.backend!r}"
        )
