"""MANNCell: a controller beside a memory that LRUA addresses."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from mannkern.backends import cuda
from mannkern.integers import check_integer
from mannkern.memories.cell import MemoryCell, register_state
from mannkern.memories.checks import check_decay, check_least_used, check_number_of_slots
from mannkern.memories.episode import pack_state
from mannkern.memories.lrua.functional import lrua_step
from mannkern.memories.lrua.ops.episode import MANNEpisodeFunction
from mannkern.memories.lrua.ops.episode_persistent import MANNEpisodePersistentFunction


@register_state
class MANNState(NamedTuple):
    """The state of a MANNCell between two steps.

    controller:   (h, c), each (B, D), for an LSTM; () for a feed-forward controller
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


class InterfaceVector(NamedTuple):
    """The interface vector, split and activated: key and add (B, R, W) in (-1, 1), gate logits and strength (B, R)."""

    key: Tensor
    add: Tensor
    gate: Tensor
    strength: Tensor | None


class MANNCell(MemoryCell):
    """One step of MANN, a memory-augmented neural network (Santoro et al. 2016) with LRUA addressing.

    The controller sees ``[x_t, r_{t-1}]``. One linear layer maps its hidden state to the interface vector: key (tanh),
    add (tanh), gate and, with ``key_strength``, strength (1 + softplus). The memory step is
    :func:`mannkern.functional.lrua_step`.

    input_size:     F
    hidden_size:    D, units of the controller
    memory_slots:   N; the defaults of N, W and R are the paper's
    memory_width:   W
    num_reads:      R, read heads
    controller:     "lstm" (torch.nn.LSTMCell), "feedforward" (one tanh layer), or a module: a torch.nn.LSTMCell,
                    GRUCell or RNNCell, or one called as ``controller(input (B, F + R W), state) -> (hidden (B, D),
                    state)``, with state None at the start of an episode
    num_least_used: n, by default min(R, N)
    least_used:     "shared" (the paper's rule) or "per_head" (docs/equations.md, least used)
    decay:          gamma; 0.99 is the paper's, the replications use 0.95
    key_strength:   whether the cell learns a strength b for each key; the paper has none, so b = 1
    memory_init:    a constant (1e-6, as the replications start), "uniform" (drawn once within 1/sqrt(N + W) and part of
                    the state_dict) or "learned" (a parameter (N, W), drawn likewise)
    backend:        see :mod:`mannkern.functional`

    Parameters are drawn as those of torch.nn.LSTMCell, except that the two biases of the forget gate add up to 1
    (Jozefowicz et al. 2015). The interface is drawn Xavier-uniform with zero bias (Glorot and Bengio 2010), so that the
    keys of heads differ from the first step on and the write gates start half open.

    Raises ValueError or TypeError for an argument out of range, naming it.
    """

    family: ClassVar[str] = "lrua"
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
        key_strength: bool = False,
        memory_init: float | str = 1e-6,
        backend: str | None = None,
        device: torch.device | str | None = None,
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
        sizes = [num_reads * memory_width] * 2 + [num_reads] * (2 if key_strength else 1)
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
        self.num_least_used = n
        self.least_used = least_used
        self.decay = float(decay)
        self.key_strength = key_strength
        self._interface_sizes = sizes

    def initial_state(self, batch_size: int) -> MANNState:
        """State of ``batch_size`` episodes before their first step, on the parameters' device, in their dtype.

        Beside half-precision parameters all but the controller's state is float32.
        """
        memory = self.first_memory(batch_size)
        B, N, W, R = batch_size, self.memory_slots, self.memory_width, self.num_reads
        usage = memory.new_zeros(B, N)
        usage[:, 0] = 1
        read_weights, read = usage.unsqueeze(1).expand(B, R, N), memory.new_zeros(B, R, W)
        return MANNState(self.first_controller_state(B), memory, read_weights, usage, read)

    def interface_vector(self, hidden: Tensor) -> InterfaceVector:
        """Key, add, gate and strength of the hidden state (B, D)."""
        B, R, W = hidden.shape[0], self.num_reads, self.memory_width
        key, add, gate, *strength = self.interface(hidden).split(self._interface_sizes, -1)
        b = 1 + F.softplus(strength[0]) if strength else None
        return InterfaceVector(torch.tanh(key).view(B, R, W), torch.tanh(add).view(B, R, W), gate, b)

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

    def fused_episode(self, input: Tensor, weights: tuple[Tensor, ...], state: MANNState) -> tuple[Tensor, MANNState]:
        """All steps of input (T, B, F) as one operation; see the base class."""
        outputs, memory, read_weights, usage, c, *_ = self._episode_function(input).apply(
            input,
            *weights,
            *pack_state(self, state),
            state.memory,
            state.read_weights,
            state.usage,
            self.num_least_used,
            self.least_used == "per_head",
            self.decay,
            torch.is_grad_enabled(),
        )
        hidden, read = outputs[-1].split([self.hidden_size, self._read_size], -1)
        controller = (hidden, c) if state.controller else ()
        return outputs, MANNState(controller, memory, read_weights, usage, read.unflatten(-1, state.read.shape[1:]))

    def _episode_function(self, input: Tensor) -> type[Function]:
        if not cuda.runs_episode(self.family, self.backend):
            return MANNEpisodeFunction
        N, W, R = self.memory_slots, self.memory_width, self.num_reads
        reason = cuda.why_no_episode(input.device, self.interface.weight.dtype, self.hidden_size, N, W, R)
        if not reason and not isinstance(self.controller, nn.LSTMCell):
            reason = "the persistent kernel needs an LSTM as controller"
        if reason:
            raise RuntimeError(f"backend={cuda.BACKEND.name!r} cannot be met: {reason}")
        return MANNEpisodePersistentFunction

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, memory_slots={self.memory_slots}, "
            f"memory_width={self.memory_width}, num_reads={self.num_reads}, num_least_used={self.num_least_used}, "
            f"least_used={self.least_used!r}, decay={self.decay}, key_strength={self.key_strength}, "
            f"memory_init={self.memory_init!r}, backend={self.backend!r}"
        )
