"""``MemoryCell``, the base class of every family's cell: a controller, the interface vector and the initial memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.backends import FusedEpisode, Sizes, check_name, choose
from mannkern.memories import checks, controllers
from mannkern.memories.checks import check_controller, check_dtype, check_input, check_tensor, compute_dtype, widen
from mannkern.memories.controllers import FeedForward, check_controller_state
from mannkern.memories.state import add_batch, drop_batch

State = TypeVar("State", bound=tuple[Any, ...])

STEP_METHODS = ("forward", "step", "interface_vector", "run_controller")
"""The methods whose work a compiled loop does. The cell of a family need not have an interface_vector."""
START_METHODS = ("initial_state", "first_memory", "first_weights", "first_controller_state")
"""The methods whose work a compiled loop does where an episode starts anew."""


class MemoryCell(nn.Module, Generic[State]):
    """Base class of the cells: a controller beside a memory (N, W).

    The controller sees ``[x_t, r_{t-1}]``, and a linear layer maps its hidden state to the interface vector, which
    consists of keys, gates and so on. A family's cell adds its state, its ``step`` and its own options. num_reads is R,
    the number of read vectors of width W that the controller sees; interface_size is I, the width of the interface
    vector. See :class:`mannkern.MANNCell` for the other arguments.
    """

    family: ClassVar[str]  # the name of its memory family
    episode_operation: ClassVar[str] = ""  # the name of its fused episode, if it has one
    state_type: ClassVar[type[Any]]  # a NamedTuple: controller, then tensors
    state_letters: ClassVar[dict[str, str]]  # the dimensions of these tensors
    initial_memory: Tensor | None  # (N, W), or None if it is a constant
    fused_episode_is_current: ClassVar[bool] = False  # whether it computes what the class's own step does
    fused_step_is_current: ClassVar[bool] = False  # likewise
    starts_as_defined: ClassVar[bool] = False  # likewise, of where episodes start anew

    def __init_subclass__(cls) -> None:
        """A subclass that overrides a step, or a part of one, leaves the compiled loop unless it brings its own."""
        super().__init_subclass__()
        owner, owner_of_step = (
            next(base for base in cls.__mro__ if name in vars(base)) for name in ("fused_episode", "fused_step")
        )
        cls.fused_episode_is_current, cls.fused_step_is_current = (
            all(getattr(cls, name, None) is getattr(base, name, None) for name in STEP_METHODS)
            for base in (owner, owner_of_step)
        )
        cls.starts_as_defined = all(getattr(cls, name) is getattr(owner, name) for name in START_METHODS)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_slots: int,
        memory_width: int,
        num_reads: int,
        interface_size: int,
        controller: str | nn.Module,
        memory_init: float | str,
        backend: str | None,
        device: torch.device | str | int | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_name(backend)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.memory_slots = memory_slots
        self.memory_width = memory_width
        self.memory_init = memory_init
        self.backend = backend
        self._read_size = num_reads * memory_width
        check_dtype(dtype)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        controller_input = input_size + self._read_size
        self._has_own_controller = isinstance(controller, nn.Module)
        if isinstance(controller, nn.Module):
            check_controller(controller, controller_input, hidden_size, dtype)
            self.controller = controller
        elif controller == "lstm":
            self.controller = nn.LSTMCell(controller_input, hidden_size, **factory)
        elif controller == "feedforward":
            self.controller = FeedForward(controller_input, hidden_size, **factory)
        else:
            raise ValueError(f"controller: got {controller!r}, need 'lstm', 'feedforward' or a torch.nn.Module")
        self.interface = nn.Linear(hidden_size, interface_size, **factory)
        if memory_init == "learned":
            self.initial_memory = nn.Parameter(torch.empty(memory_slots, memory_width, **factory))
        elif memory_init == "uniform":
            self.register_buffer("initial_memory", torch.empty(memory_slots, memory_width, **factory))
        elif isinstance(memory_init, (int, float)) and not isinstance(memory_init, bool) and math.isfinite(memory_init):
            self.initial_memory = None  # a buffer outside the state_dict would be lost on the meta device
        else:
            raise ValueError(f"memory_init: got {memory_init!r}, need a finite number, 'uniform' or 'learned'")
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        """Width of a step's output: D + R W."""
        return self.hidden_size + self._read_size

    def episode_on(self, device: torch.device) -> FusedEpisode | None:
        """How an episode of this cell is computed on a device as one operation; None where it is not."""
        N, W = self.memory_slots, self.memory_width
        sizes = {"N": N, "W": W, "R": self._read_size // W, "D": self.hidden_size}
        dtype = compute_dtype(self.interface.weight)
        if not self.episode_operation:
            return None
        backend = choose(self.family, self.backend, device, **sizes, operation=self.episode_operation, dtype=dtype)
        fused = backend.fused_episode(self.family, Sizes(**sizes), dtype)
        kind = "feedforward" if isinstance(self.controller, FeedForward) else "lstm"
        return None if fused is None or kind not in fused.controllers else fused

    def reset_parameters(self) -> None:
        """Draw all parameters again, except those of a controller or interface of the caller's own; see the class."""
        if self._has_own_controller:
            pass
        elif isinstance(self.controller, nn.LSTMCell):
            self.controller.reset_parameters()
            with torch.no_grad():
                for bias in (self.controller.bias_ih, self.controller.bias_hh):
                    bias[self.hidden_size : 2 * self.hidden_size].fill_(0.5)
        elif isinstance(self.controller, FeedForward):
            self.controller.linear.reset_parameters()
        if type(self.interface) is nn.Linear:
            nn.init.xavier_uniform_(self.interface.weight)
            nn.init.zeros_(self.interface.bias)
        with torch.no_grad():
            if self.initial_memory is not None:
                bound = 1 / math.sqrt(self.memory_slots + self.memory_width)
                self.initial_memory.uniform_(-bound, bound)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Beside the weights, the metadata of the state_dict says which constant the memory starts with."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.initial_memory is None and hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["memory_init"] = float(self.memory_init)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Refuse weights that were trained with another constant, as those of another size are refused."""
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        theirs = local_metadata.get("memory_init", self.memory_init)
        if self.initial_memory is None and theirs != self.memory_init:
            error_msgs.append(f"memory_init: got {theirs} from the state_dict, need {self.memory_init}, this cell's")

    def any_parameter(self) -> Tensor:
        """A parameter of the cell, because states and inputs have its device and dtype.

        It is the interface's weight, or the first of a float type where another module has replaced the interface.
        """
        weight: Any = self.interface._parameters.get("weight")  # pruning leaves a stale tensor as an attribute
        if weight is not None and weight.is_floating_point():
            return weight
        for x in self.parameters():
            if x.is_floating_point():
                return x
        weight = getattr(self.interface, "weight", None)  # of a replica of DataParallel, which has no parameters
        if isinstance(weight, Tensor) and weight.is_floating_point():
            return weight
        raise TypeError("cell: got no parameter of a float type, need one, whose device and dtype a state has")

    def initial_state(self, batch_size: int) -> Any:
        """The state of ``batch_size`` episodes before their first step."""
        raise NotImplementedError

    def step(self, input: Tensor, state: Any) -> tuple[Tensor, Any, Tensor]:
        """One step without checks of input and state: output (B, D + R W), state, write weights (B, heads, N)."""
        raise NotImplementedError

    def fused_episode(
        self,
        input: Tensor,
        weights: tuple[Tensor, ...],
        state: Any,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        bfloat16: bool = False,
    ) -> tuple[Tensor, Any]:
        """All steps of input (T, B, F) as one operation, on a backend that has it: outputs (T, B, D + R W), state.

        weights: this cell's, from :func:`mannkern.memories.episode.pack_weights`. lengths (B,), the longest first where
        the backend wants it, and reset (T, B): as :meth:`mannkern.memories.sequence.MemorySequence.forward` has them.
        bfloat16: whether products with the weights are in bfloat16, where the backend has them.
        """
        raise NotImplementedError

    def forward(self, input: Tensor | None, state: State | None = None) -> tuple[Tensor, State]:
        """input (B, F), state None for the initial one -> output (B, D + R W) = [h_t, r_t], state.

        An input (F) is one episode's: output and state have no B then. An input None, beside a state, is one of zeros.
        """
        x = self._zeros(state) if input is None else input
        if isinstance(x, Tensor) and x.dim() == 1:
            output, last = self._checked_step(x.unsqueeze(0), add_batch(state))
            return drop_batch(output), drop_batch(last)
        return self._checked_step(x, state)

    if TYPE_CHECKING:
        __call__ = forward

    def fused_step(self, input: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """A step as one operation; None where it takes none, or where the operation refuses the arguments."""
        return None

    def _checked_step(self, input: Tensor, state: State | None) -> tuple[Tensor, State]:
        fuses, start = type(self).fused_step_is_current, state
        if fuses:
            start = self._start(input) if state is None else state
            result = self.fused_step(input, start)
            if result is not None:
                return result
        check_input(input, self.input_size, self.any_parameter())
        checks.check_weights(self, input)
        if state is not None:
            start = self.check_state(state, input.shape[0])
            if fuses and start is not state:  # parts of half precision are widened now
                result = self.fused_step(input, start)
                if result is not None:
                    return result
        output, last, _ = self.step(input, self._start(input) if start is None else start)
        return output, last

    def _start(self, input: Tensor) -> Any:
        check_input(input, self.input_size, self.any_parameter())
        return self.initial_state(input.shape[0])

    def _zeros(self, state: Any) -> Tensor:
        """The input of a step without one: zeros for the episodes of the state."""
        if not isinstance(state, self.state_type):
            raise TypeError(f"input: got None beside state {type(state).__name__}, need a tensor, or a state to go on")
        return checks.full_beside(self.any_parameter(), (*state.memory.shape[:-2], self.input_size))

    def sizes(self, batch_size: int) -> dict[str, int]:
        """The sizes of a state by their letters."""
        W = self.memory_width
        return {"B": batch_size, "N": self.memory_slots, "W": W, "R": self._read_size // W}

    def check_state(self, state: Any, batch_size: int) -> Any:
        """The state, if it fits ``batch_size`` episodes of this cell; else ValueError or TypeError, naming the part.

        Parts of half precision are widened to float32; those of the controller have the dtype of the parameters.
        """
        name = self.state_type.__name__
        if not isinstance(state, self.state_type):
            raise TypeError(f"state: got {type(state).__name__}, need the {name} that initial_state or a step returns")
        first, sizes = self.any_parameter(), self.sizes(batch_size)
        for part, letters in self.state_letters.items():
            x, part_name = getattr(state, part), "state." + part
            wide = check_tensor(first, part_name, x, letters, tuple([sizes[letter] for letter in letters]))
            if wide is not x:
                state = state._replace(**{part: wide})  # the compiled loop takes no half precision
        controller = check_controller_state(self.controller, state.controller, first, (batch_size, self.hidden_size))
        return state if controller is state.controller else state._replace(controller=controller)

    def first_memory(self, batch_size: int) -> Tensor:
        """Memory (B, N, W) before the first step, float32 beside half-precision parameters."""
        if isinstance(batch_size, Tensor):
            raise TypeError("batch_size: got a Tensor, as torch.jit traces it, need an int: use torch.export instead")
        if not isinstance(batch_size, (int, torch.SymInt)) or isinstance(batch_size, bool) or batch_size < 0:
            raise ValueError(f"batch_size: got {batch_size!r}, need an int, at least 0")
        initial, sizes = self.initial_memory, (batch_size, self.memory_slots, self.memory_width)
        if initial is None:
            like = self.any_parameter()
            return checks.full_beside(like, sizes, float(self.memory_init), compute_dtype(like))
        memory = widen(checks.whole(initial)).expand(sizes)
        return memory.clone(memory_format=torch.contiguous_format)  # which may be written to

    def first_weights(self, like: Tensor, *sizes: int) -> Tensor:
        """Weights (*sizes, N) before the first step, all of them on the first slot, in the dtype of ``like``."""
        return F.pad(like.new_ones(*sizes, 1), (0, self.memory_slots - 1))

    def first_controller_state(self, batch_size: int) -> Any:
        """The controller's state before the first step: see :func:`mannkern.memories.controllers.first_state`."""
        return controllers.first_state(self.controller, self.any_parameter(), (batch_size, self.hidden_size))

    def run_controller(self, input: Tensor, read: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Hidden state (B, D) and new state of the controller on ``[input, read]``: input (B, F), read (B, R, W)."""
        controller_input = torch.cat([input, read.flatten(1).to(input.dtype)], -1)
        return controllers.step(self.controller, controller_input, state, self.hidden_size)
