"""MANN and NTM: whole episodes, step by step what looping their cells gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mannkern import checks
from mannkern.autograd.episodes import MANNEpisode, NTMEpisode
from mannkern.backends import choose
from mannkern.cells import MANNCell, MANNState, NTMCell, NTMState
from mannkern.cells.base import FeedForward


def _weights(cell: MANNCell | NTMCell) -> tuple[Tensor, ...]:
    """What the compiled loops take of a controller and the interface.

    Weights of x, bias, weights of [h, r] (of a layer: of r), weights of the interface, its bias.
    """
    controller, F = cell.controller, cell.input_size
    interface = cell.interface.weight, cell.interface.bias
    if isinstance(controller, FeedForward):
        weight, bias = controller.linear.weight, controller.linear.bias
        return weight[:, :F], bias, weight[:, F:], *interface
    assert isinstance(controller, nn.LSTMCell)  # of _is_plain
    recurrent = torch.cat([controller.weight_hh, controller.weight_ih[:, F:]], 1)
    return controller.weight_ih[:, :F], controller.bias_ih + controller.bias_hh, recurrent, *interface


def _before(cell: MANNCell | NTMCell, state: MANNState | NTMState) -> tuple[Tensor, Tensor | None]:
    """[h, r] and c before the first step; of a layer, which sees no h, zeros in its place and None."""
    read = state.read.flatten(1)
    hidden, c = state.controller or (read.new_zeros(read.shape[0], cell.hidden_size), None)
    return torch.cat([hidden, read], 1), c


def _split(state: Any, count: int) -> list[Any]:
    """States of ``count`` parts of the batch."""
    controllers = (
        zip(*(x.tensor_split(count) for x in state.controller), strict=True) if state.controller else [()] * count
    )
    return [type(state)(*part) for part in zip(controllers, *(x.tensor_split(count) for x in state[1:]), strict=True)]


def _joined(states: tuple[Any, ...]) -> Any:
    controllers, *parts = zip(*states, strict=True)
    controller = tuple(torch.cat(x) for x in zip(*controllers, strict=True))
    return type(states[0])(controller, *(torch.cat(x) for x in parts))


_THREADS = torch.get_num_threads()  # which torch.compile cannot ask for
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _is_plain(cell: MANNCell | NTMCell) -> bool:
    """Whether the compiled loops do what the cell does: no module of another type, none with a hook."""
    controller: nn.Module = cell.controller
    linears: list[Any] = [cell.interface]
    if type(controller) is FeedForward:
        linears.append(controller.linear)
    elif type(controller) is not nn.LSTMCell or not controller.bias:
        return False
    plain = all(type(linear) is nn.Linear and linear.bias is not None for linear in linears)
    return plain and not any(getattr(part, hook) for part in (cell, controller, *linears) for hook in _HOOKS)


class _Sequence(nn.Module):
    """A cell over the T steps of an episode, in compiled code where that is there."""

    cell: Any
    batch_first: bool
    _family: str

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
        checks.step_input(input, cell.input_size, cell.interface.weight, "BTF" if self.batch_first else "TBF")
        if self.batch_first:
            input = input.transpose(0, 1)
        B = input.shape[1]
        state = cell.initial_state(B) if state is None else cell.check_state(state, B)
        output, state = self._in_parts(input, state) if self._has_compiled_loop(input) else self._loop(input, state)
        return output.transpose(0, 1) if self.batch_first else output, state

    def _loop(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for x in input:
            output, state, *_ = self.cell.step(x, state)
            outputs.append(output)
        empty = input.new_empty(0, input.shape[1], self.output_size)
        return torch.stack(outputs) if outputs else empty, state

    def _has_compiled_loop(self, input: Tensor) -> bool:
        cell = self.cell
        return (
            _is_plain(cell)
            and cell.interface.weight.dtype in (torch.float32, torch.float64)
            and input.shape[0] > 0
            and choose(cell.backend, input.device, family=self._family) == "cpp"
            and not torch.is_autocast_enabled(input.device.type)
            and not torch._C._are_functorch_transforms_active()
        )

    def _in_parts(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The compiled loop on some episodes after the other.

        What 1,024 of them keep in one piece is memory that the system gives and takes back at every call, and they cost
        up to 70% more (bench/FACTS.md).
        """
        threads = _THREADS if torch.compiler.is_compiling() else torch.get_num_threads()
        size, B = 64 * max(2, threads), input.shape[1]
        weights = _weights(self.cell)
        if size >= B:
            return self._compiled(input, weights, state)
        count = -(-B // size)
        inputs, states = input.tensor_split(count, 1), _split(state, count)
        outputs, last = zip(*(self._compiled(x, weights, part) for x, part in zip(inputs, states)), strict=True)
        return torch.cat(outputs, 1), _joined(last)

    def _compiled(self, input: Tensor, weights: tuple[Tensor, ...], state: Any) -> tuple[Tensor, Any]:
        """The loop over T in compiled code, with what ``_weights`` took from the cell."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"


class MANN(_Sequence):
    """A MANNCell over the T steps of an episode, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.MANNCell`'s, and ``batch_first`` for inputs and outputs (B, T, ·) in place of
    (T, B, ·). Its parameters are those of its ``cell``.
    """

    _family = "lrua"

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
        batch_first: bool = False,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = MANNCell(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_reads,
            controller=controller,
            num_least_used=num_least_used,
            least_used=least_used,
            decay=decay,
            key_strength=key_strength,
            memory_init=memory_init,
            backend=backend,
            device=device,
            dtype=dtype,
        )

    def _compiled(self, input: Tensor, weights: tuple[Tensor, ...], state: MANNState) -> tuple[Tensor, MANNState]:
        cell = self.cell
        outputs, memory, read_weights, usage, c, *_ = MANNEpisode.apply(
            input,
            *weights,
            *_before(cell, state),
            state.memory,
            state.read_weights,
            state.usage,
            cell.num_least_used,
            cell.least_used == "per_head",
            cell.decay,
            torch.is_grad_enabled(),
        )
        hidden, read = outputs[-1].split([cell.hidden_size, cell.num_reads * cell.memory_width], -1)
        controller = (hidden, c) if state.controller else ()
        return outputs, MANNState(controller, memory, read_weights, usage, read.unflatten(-1, state.read.shape[1:]))


class NTM(_Sequence):
    """An NTMCell over the T steps of a sequence, as torch.nn.LSTM is one of LSTMCell.

    Arguments are :class:`mannkern.NTMCell`'s, and ``batch_first`` for inputs and outputs (B, T, ·) in place of
    (T, B, ·). Its parameters are those of its ``cell``.
    """

    _family = "ntm"

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
        batch_first: bool = False,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = NTMCell(
            input_size,
            hidden_size,
            memory_slots,
            memory_width,
            num_read_heads,
            num_write_heads,
            shift_range,
            controller=controller,
            memory_init=memory_init,
            backend=backend,
            device=device,
            dtype=dtype,
        )

    def _compiled(self, input: Tensor, weights: tuple[Tensor, ...], state: NTMState) -> tuple[Tensor, NTMState]:
        cell = self.cell
        outputs, memory, head_weights, c, *_ = NTMEpisode.apply(
            input,
            *weights,
            *_before(cell, state),
            state.memory,
            torch.cat([state.write_weights, state.read_weights], 1),
            cell.num_write_heads,
            2 * cell.shift_range + 1,
            torch.is_grad_enabled(),
        )
        hidden, read = outputs[-1].split([cell.hidden_size, cell.num_read_heads * cell.memory_width], -1)
        write_weights, read_weights = head_weights.split([cell.num_write_heads, cell.num_read_heads], 1)
        controller = (hidden, c) if state.controller else ()
        return outputs, NTMState(controller, memory, read_weights, write_weights, read.view_as(state.read))
