"""What the cells share: sizes, a controller, the memory they start with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mannkern import checks


class FeedForward(nn.Module):
    """The feed-forward controller: one tanh layer, no state of its own."""

    def __init__(self, input_size: int, hidden_size: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, input: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """Hidden (B, D) of input (B, F + R W); the state stays ()."""
        return torch.tanh(self.linear(input)), state


class MemoryCell(nn.Module):
    """A controller on ``[x_t, r_{t-1}]``, a linear interface of its hidden state, and a memory (N, W) to start with.

    heads: R, how many vectors of W the controller gets to read. interface_size: numbers the memory is asked with.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int,
        memory_width: int,
        heads: int,
        interface_size: int,
        controller: str | nn.Module,
        memory_init: float | str,
        backend: str | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.memory_slots = memory_slots
        self.memory_width = memory_width
        self.memory_init = memory_init
        self.backend = backend
        self._read_size = heads * memory_width
        checks.floating(dtype)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        controller_input = input_size + self._read_size
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
        self.interface = nn.Linear(hidden_size, interface_size, **factory)
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
        return self.hidden_size + self._read_size

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

    def first_memory(self, batch_size: int) -> Tensor:
        """Memory (B, N, W) before the first step, float32 beside half-precision parameters."""
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 0:
            raise ValueError(f"batch_size: got {batch_size!r}, need an int, at least 0")
        return checks.widen(self.initial_memory).expand(batch_size, self.memory_slots, self.memory_width)

    def first_controller_state(self, batch_size: int) -> Any:
        """(h, c) of zeros for an LSTM, () for a feed-forward controller, None for one that was given."""
        if isinstance(self.controller, nn.LSTMCell):
            h = self.initial_memory.new_zeros(batch_size, self.hidden_size)
            return h, torch.zeros_like(h)
        return () if isinstance(self.controller, FeedForward) else None

    def check_parts(self, state: Any, letters: dict[str, str], sizes: dict[str, int]) -> None:
        """Each tensor of a state, by its name and dimensions, and the controller's."""
        first = checks.widen(self.initial_memory)
        for name, dimensions in letters.items():
            expected = tuple(sizes[letter] for letter in dimensions)
            checks.like(first, f"state.{name}", getattr(state, name), dimensions, expected)
        if isinstance(self.controller, nn.LSTMCell):
            for name, x in zip("hc", state.controller, strict=True):
                checks.like(self.initial_memory, f"state.controller {name}", x, "BD", (sizes["B"], self.hidden_size))

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
