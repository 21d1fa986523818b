"""MANNCell: a controller beside an external memory, as natural in a loop as torch.nn.LSTMCell."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import checks
from mannkern.functional import lrua_step


class MANNState(NamedTuple):
    """What a MANNCell carries from step to step.

    controller: the controller's own state: (h, c), each (B, D), of an LSTM, () of a feed-forward controller
    memory (B, N, W), read_weights (B, R, N), usage (B, N), read (B, R, W)
    """

    controller: Any
    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    read: Tensor


class Interface(NamedTuple):
    """What the controller asks of the memory: key and add (B, R, W) in (-1, 1), gate logits and strength (B, R)."""

    key: Tensor
    add: Tensor
    gate: Tensor
    strength: Tensor | None


class FeedForward(nn.Module):
    """The feed-forward controller: one tanh layer, no state of its own."""

    def __init__(self, input_size: int, hidden_size: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, input: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """Hidden (B, D) of input (B, F + R W); the state stays ()."""
        return torch.tanh(self.linear(input)), state


class MANNCell(nn.Module):
    """One step of MANN, a memory-augmented neural network (Santoro et al. 2016) with LRUA addressing.

    The controller sees ``[x_t, r_{t-1}]``; one linear layer maps its hidden state to key (tanh), add (tanh), gate and,
    with ``key_strength``, strength (1 + softplus); the memory step is :func:`mannkern.functional.lrua_step`.

    input_size F, hidden_size D; memory_slots N, memory_width W, num_reads R: 128, 40 and 4 are the paper's.
    controller: "lstm" (torch.nn.LSTMCell), "feedforward" (one tanh layer), or a module: a torch.nn.LSTMCell, GRUCell or
        RNNCell, or one called as ``controller(input (B, F + R W), state) -> (hidden (B, D), state)`` with state None at
        the start of an episode.
    num_least_used: n, by default min(R, N). least_used: "shared" (the paper's) or "per_head".
    decay: gamma; 0.99 is the paper's, the replications use 0.95. key_strength: off in the paper.
    memory_init: a constant (1e-6, as the replications start), "uniform" (drawn once within 1/sqrt(N + W), kept in the
        state_dict) or "learned" (a parameter (N, W), drawn likewise).
    backend: see :mod:`mannkern.functional`.

    Parameters start as torch.nn.LSTMCell's do, but for the LSTM's forget gate, whose biases add up to 1 (Jozefowicz et
    al. 2015); the interface starts Xavier-uniform with zero bias (Glorot and Bengio 2010), so that keys differ between
    heads from the first step and the write gates start half open.

    Raises ValueError or TypeError for an argument out of range, naming it.
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
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.positive("input_size", input_size)
        self.hidden_size = checks.positive("hidden_size", hidden_size)
        self.memory_slots = checks.positive("memory_slots", memory_slots)
        self.memory_width = checks.positive("memory_width", memory_width)
        self.num_reads = checks.positive("num_reads", num_reads)
        n = min(num_reads, memory_slots) if num_least_used is None else num_least_used
        self.num_least_used = checks.number_of_slots("num_least_used", n, memory_slots)
        checks.per_head(least_used)
        self.least_used = least_used
        self.decay = checks.decay(decay)
        if not isinstance(key_strength, bool):
            raise TypeError(f"key_strength: got {type(key_strength).__name__}, need True or False")
        self.key_strength = key_strength
        checks.floating(dtype)
        self.memory_init = memory_init
        self.backend = backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        controller_input = input_size + num_reads * memory_width
        self._given_controller = isinstance(controller, nn.Module)
        if isinstance(controller, nn.Module):
            checks.controller(controller, controller_input, hidden_size)
            self.controller = controller
        elif controller == "lstm":
            self.controller = nn.LSTMCell(controller_input, hidden_size, **factory)
        elif controller == "feedforward":
            self.controller = FeedForward(controller_input, hidden_size, **factory)
        else:
            raise ValueError(f"controller: got {controller!r}, need 'lstm', 'feedforward' or a torch.nn.Module")
        self._sizes = [num_reads * memory_width] * 2 + [num_reads] * (2 if key_strength else 1)
        self.interface = nn.Linear(hidden_size, sum(self._sizes), **factory)
        initial = torch.empty(memory_slots, memory_width, **factory)
        if memory_init == "learned":
            self.initial_memory = nn.Parameter(initial)
        elif memory_init == "uniform":
            self.register_buffer("initial_memory", initial)
        elif isinstance(memory_init, (int, float)) and not isinstance(memory_init, bool) and math.isfinite(memory_init):
            self.register_buffer("initial_memory", initial, persistent=False)
        else:
            raise ValueError(f"memory_init: got {memory_init!r}, need a finite number, 'uniform' or 'learned'")
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        """Width of a step's output: D + R W."""
        return self.hidden_size + self.num_reads * self.memory_width

    def reset_parameters(self) -> None:
        """Draw all parameters anew, but for those of a controller that was given; see the class."""
        if self._given_controller:
            pass
        elif isinstance(self.controller, nn.LSTMCell):
            self.controller.reset_parameters()
            with torch.no_grad():
                for bias in (self.controller.bias_ih, self.controller.bias_hh):
                    bias[self.hidden_size : 2 * self.hidden_size].fill_(0.5)
        elif isinstance(self.controller, FeedForward):
            self.controller.linear.reset_parameters()
        nn.init.xavier_uniform_(self.interface.weight)
        nn.init.zeros_(self.interface.bias)
        with torch.no_grad():
            if isinstance(self.memory_init, str):
                bound = 1 / math.sqrt(self.memory_slots + self.memory_width)
                self.initial_memory.uniform_(-bound, bound)
            else:
                self.initial_memory.fill_(self.memory_init)

    def initial_state(self, batch_size: int) -> MANNState:
        """State of ``batch_size`` episodes before their first step, on the parameters' device, in their dtype.

        Beside half-precision parameters all but the controller's state is float32.
        """
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 0:
            raise ValueError(f"batch_size: got {batch_size!r}, need an int, at least 0")
        B, N, W, R = batch_size, self.memory_slots, self.memory_width, self.num_reads
        first = checks.widen(self.initial_memory)
        new = first.new_zeros
        usage = new(B, N)
        usage[:, 0] = 1
        controller: Any = None
        if isinstance(self.controller, nn.LSTMCell):
            h = self.initial_memory.new_zeros(B, self.hidden_size)
            controller = (h, torch.zeros_like(h))
        elif isinstance(self.controller, FeedForward):
            controller = ()
        return MANNState(controller, first.expand(B, N, W), usage.unsqueeze(1).expand(B, R, N), usage, new(B, R, W))

    def check_state(self, state: MANNState, batch_size: int) -> MANNState:
        """The state, if it fits ``batch_size`` episodes of this cell; else ValueError or TypeError, naming the part."""
        if not isinstance(state, MANNState):
            raise TypeError(f"state: got {type(state).__name__}, need a MANNState, as initial_state or a step returns")
        B, N, W, R = batch_size, self.memory_slots, self.memory_width, self.num_reads
        parts = {"memory": "BNW", "read_weights": "BRN", "usage": "BN", "read": "BRW"}
        sizes = {"B": B, "N": N, "W": W, "R": R}
        first = checks.widen(self.initial_memory)
        for name, letters in parts.items():
            expected = [sizes[letter] for letter in letters]
            checks.like(first, f"state.{name}", getattr(state, name), letters, expected)
        if isinstance(self.controller, nn.LSTMCell):
            for name, x in zip("hc", state.controller, strict=True):
                checks.like(self.initial_memory, f"state.controller {name}", x, "BD", (B, self.hidden_size))
        return state

    def control(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Hidden state (B, D) and new state of the controller on ``input`` (B, F + R W)."""
        if isinstance(self.controller, nn.LSTMCell):
            state = self.controller(input, state)
            return state[0], state
        if isinstance(self.controller, (nn.GRUCell, nn.RNNCell)):
            hidden = self.controller(input, state)
            return hidden, hidden
        hidden, state = self.controller(input, state)
        return hidden, state

    def ask(self, hidden: Tensor) -> Interface:
        """Key, add, gate and strength of the hidden state (B, D)."""
        B, R, W = hidden.shape[0], self.num_reads, self.memory_width
        key, add, gate, *strength = self.interface(hidden).split(self._sizes, -1)
        b = 1 + F.softplus(strength[0]) if strength else None
        return Interface(torch.tanh(key).view(B, R, W), torch.tanh(add).view(B, R, W), gate, b)

    def step(self, input: Tensor, state: MANNState) -> tuple[Tensor, MANNState, Tensor]:
        """One step that also returns the write weights (B, R, N): output (B, D + R W), state, write weights."""
        read = state.read.flatten(1).to(input.dtype)
        hidden, controller = self.control(torch.cat([input, read], -1), state.controller)
        new = lrua_step(
            state.memory,
            state.read_weights,
            state.usage,
            *self.ask(hidden),
            num_least_used=self.num_least_used,
            least_used=self.least_used,
            decay=self.decay,
            backend=self.backend,
        )
        output = torch.cat([hidden, new.read.flatten(1).to(hidden.dtype)], -1)
        return output, MANNState(controller, new.memory, new.read_weights, new.usage, new.read), new.write_weights

    def forward(self, input: Tensor, state: MANNState | None = None) -> tuple[Tensor, MANNState]:
        """input (B, F), state None for the initial one -> output (B, D + R W) = [h_t, r_t], state."""
        checks.step_input(input, self.input_size, self.interface.weight)
        B = input.shape[0]
        output, state, _ = self.step(input, self.initial_state(B) if state is None else self.check_state(state, B))
        return output, state

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, memory_slots={self.memory_slots}, "
            f"memory_width={self.memory_width}, num_reads={self.num_reads}, num_least_used={self.num_least_used}, "
            f"least_used={self.least_used!r}, decay={self.decay}, key_strength={self.key_strength}, "
            f"memory_init={self.memory_init!r}, backend={self.backend!r}"
        )
