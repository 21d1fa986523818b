"""What the fused steps of all cells share: when a cell takes one, and how the gradients of its weights are summed up.

A fused step is a cell's own step, its controller included, as one operation. Its first arguments are the same for every
family; csrc/cpu/cell.h reads them:

    input             (B, F)
    hidden, cell      (B, D)         h and c before the step; None for one tanh layer
    ...                              the memory's state
    read              (B, R, W)      before the step
    weight            (G, F + R W)   of [x, r]: G = 4 D gates of torch.nn.LSTMCell, or G = D of one tanh layer
    recurrent_weight  (G, D)         of h; None for one tanh layer, as recurrent_bias
    bias, recurrent_bias (G)
    interface_weight  (I, D), interface_bias (I)

Its first three results are the output (B, D + R W), h and c. The backward step gives no gradients of weights, but rows:
one for each episode, of the numbers that these gradients are products of. :class:`WeightGradients` multiplies the rows
of many steps at once, where each step alone would write and add gradients as large as the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function, forward_ad

from mannkern.backends import choose
from mannkern.memories.cell import MemoryCell
from mannkern.memories.episode import is_plain
from mannkern.memories.function import is_differentiated_again
from mannkern.memories.library import operation

Weights = tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor, Tensor]
Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
_PLAIN = (nn.Parameter, Tensor)
_WIDE = (torch.float32, torch.float64)
ROWS = 512  # of one product: beyond it a product is no faster


@operation("cell_weight_gradients", "default")
def cell_weight_gradients(
    rows: Tensor, num_gates: int, interface_size: int, input_size: int, recurrent_size: int, hidden_size: int
) -> Five:
    """Gradients of weight, recurrent weight (0 columns for a tanh layer), bias, interface weight and its bias.

    rows (M, G + I + X + U + D): gradients of gates (G) and interface vector (I), before activation; [x, r] (X) and h
    (U) before the step, and h after it (D).
    """
    sizes = (num_gates, input_size), (num_gates, recurrent_size), (num_gates,), (interface_size, hidden_size)
    return (*(rows.new_empty(size) for size in sizes), rows.new_empty(interface_size))  # type: ignore[return-value]


def weights_of(cell: MemoryCell[Any]) -> Weights | None:
    """The weights of a plain cell, as a fused step takes them; None where something else stands for a parameter."""
    modules: Any = cell._modules
    controller: Any = modules["controller"]
    interface: Any = modules["interface"]._parameters
    try:
        if type(controller) is nn.LSTMCell:
            first: Any = controller._parameters
            given = first["weight_ih"], first["weight_hh"], first["bias_ih"], first["bias_hh"]
        else:
            first = controller._modules["linear"]._parameters
            given = first["weight"], None, first["bias"], None
        return *given, interface["weight"], interface["bias"]
    except KeyError:
        return None


def can_fuse(cell: MemoryCell[Any], input: Any) -> bool:
    """Whether a step of the cell on this input may be one operation, if the operation takes the state.

    It may for a plain cell in float32 or float64 in eager mode on a backend that has such steps, and nowhere that
    PyTorch transforms operations or changes their dtype.
    """
    if type(input) is not Tensor or torch.compiler.is_compiling() or not is_plain(cell):
        return False
    weight: Any = cell._modules["interface"]._parameters.get("weight")  # type: ignore[union-attr]
    if type(weight) not in _PLAIN or weight.dtype not in _WIDE:
        return False
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    return choose(cell.family, cell.backend, input.device).fuses_steps


def is_fused_state(cell: MemoryCell[Any], state_type: type[Any], state: Any) -> bool:
    """Whether a state has the parts that a fused step takes; the operation checks the tensors among them."""
    if type(state) is not state_type or not isinstance(state.memory, Tensor) or state.memory.is_nested:
        return False
    if state.memory.shape[1:] != (cell.memory_slots, cell.memory_width):  # the rest has to fit these and the weights
        return False
    size = 2 if isinstance(cell._modules["controller"], nn.LSTMCell) else 0
    return type(state.controller) is tuple and len(state.controller) == size


class WeightGradients:
    """The gradients of a cell's weights over the steps of an episode, from the rows of each step.

    Steps of an episode find it through the state, whose memory the step before has made: its node of the graph has it.
    It keeps backward passes apart, because one can run within another or beside it, in another thread.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.needed = requirements(weights)
        weight, recurrent, _, _, interface, _ = weights
        recurrent_size = 0 if recurrent is None else recurrent.shape[1]
        self.sizes = (weight.shape[0], interface.shape[0], weight.shape[1], recurrent_size, interface.shape[1])
        self.rows: dict[int, list[Tensor]] = {}  # of each backward pass, by its number, as the sums
        self.sums: dict[int, Five] = {}

    def add(self, rows: Tensor) -> None:
        """Take the rows of a step."""
        task = torch._C._current_graph_task_id()
        waiting = self.rows.setdefault(task, [])
        waiting.append(rows)
        if len(waiting) * rows.shape[0] >= ROWS:
            self._multiply(task)

    def _multiply(self, task: int) -> None:
        rows = self.rows.pop(task, None)
        if rows is None:
            return
        got = cell_weight_gradients["default"](torch.cat(rows), *self.sizes)
        if task in self.sums:
            torch._foreach_add_(self.sums[task], got)
        else:
            self.sums[task] = got

    def take(self) -> tuple[Tensor | None, ...]:
        """The gradients of the weights in this backward pass, None where its steps gave no rows."""
        task = torch._C._current_graph_task_id()
        self._multiply(task)
        sums = self.sums.pop(task, None)
        if sums is None:
            return (None,) * 6
        weight, recurrent, bias, interface, interface_bias = sums
        if self.weights[1] is None:
            return weight, None, bias, None, interface, interface_bias
        return weight, recurrent, bias, bias.clone(), interface, interface_bias


def requirements(weights: Weights) -> tuple[bool, ...]:
    """Which of the weights require a gradient."""
    return tuple([weight is not None and weight.requires_grad for weight in weights])


class WeightsFunction(Function):
    """The gradients of weights, after the backward passes of all steps that were given the result, which is empty."""

    @staticmethod
    def forward(ctx: Any, gradients: WeightGradients, *weights: Tensor | None) -> Tensor:
        ctx.gradients = gradients
        ctx.set_materialize_grads(False)
        return weights[-1].new_empty(0)  # type: ignore[union-attr]

    @staticmethod
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, ...]:
        grads = ctx.gradients.take()
        return None, *(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad[1:], strict=True))


def gradients_of(weights: Weights, memory: Tensor) -> tuple[WeightGradients, Tensor]:
    """Where the steps of an episode sum up gradients of these weights: what the step that made ``memory`` has, or new.

    And the result of WeightsFunction, which makes autograd call it after the steps.
    """
    before = getattr(memory.grad_fn, "weight_gradients", None)
    if (
        isinstance(before, WeightGradients)
        and all(a is b for a, b in zip(before.weights, weights, strict=True))
        and before.needed == requirements(weights)  # else the result before may lead to fewer weights, or to none
    ):
        return before, memory.grad_fn.after_steps  # type: ignore[union-attr]
    gradients = WeightGradients(weights)
    return gradients, WeightsFunction.apply(gradients, *weights)


def pack(weights: Weights) -> Five:
    """Weights of a step as an episode has them, from input_weight to interface_bias."""
    weight, recurrent, bias, recurrent_bias, interface, interface_bias = weights
    if recurrent is None or recurrent_bias is None:
        return weight, bias, weight[:, :0], interface, interface_bias
    return weight, bias + recurrent_bias, recurrent, interface, interface_bias


def pack_output(hidden: Tensor | None, read: Tensor, interface_weight: Tensor) -> Tensor:
    """[h, r] before a step, as an episode takes them; h is zero for one tanh layer, which does not see it."""
    if hidden is None:
        hidden = read.new_zeros(read.shape[0], interface_weight.shape[1])
    return torch.cat([hidden, read.flatten(1)], 1)


def unpack_output(
    output: Tensor, hidden: Tensor | None, read: Tensor, *state: Tensor | None
) -> Iterator[Tensor | None]:
    """The results of a step behind its output (B, D + R W): h, None for one tanh layer, then the state, then r."""
    D = output.shape[1] - read.shape[1] * read.shape[2]
    yield None if hidden is None else output[:, :D]
    yield from state
    yield output[:, D:].unflatten(1, read.shape[1:])


def controller_results(
    input: Tensor, hidden: Tensor | None, read: Tensor, interface_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, h and c of a step: shapes for its fake."""
    B, D = input.shape[0], interface_weight.shape[1]
    of_lstm = input.new_empty((0 if hidden is None else B, D))
    return input.new_empty((B, D + read.shape[1] * read.shape[2])), of_lstm, torch.empty_like(of_lstm)


def controller_numbers(input: Tensor, weight: Tensor, interface_weight: Tensor) -> int:
    """Numbers that a step saves of its controller: gates and h."""
    return input.shape[0] * (weight.shape[0] + interface_weight.shape[1])


def controller_gradients(
    input: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    interface_weight: Tensor,
    needs_input_grad: bool,
    needs_weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, and of h as of c, and the rows of a backward step: shapes for its fake."""
    (B, F), D = input.shape, interface_weight.shape[1]
    d_input = input.new_empty((B if needs_input_grad else 0, F))
    d_hidden = input.new_empty((0 if hidden is None else B, D))
    row = sum(weight.shape) + sum(interface_weight.shape) + (0 if hidden is None else D)
    return d_input, d_hidden, input.new_empty((B if needs_weight_grad else 0, row))


def gives_rows(ctx: Any) -> bool:
    """Whether this backward pass comes to the weights of the step, and takes its rows then."""
    return any(ctx.needs_input_grad[7:13]) and torch._C._will_engine_execute_node(ctx.after_steps.grad_fn)


def gradients_for_autograd(
    ctx: Any, out: Sequence[Tensor], hidden: Tensor | None, rows_given: bool
) -> tuple[Tensor | None, ...]:
    """The gradients of a backward step in the form that autograd takes, of all tensors; those of weights come later."""
    d_input, d_hidden, d_cell, *state, rows = out
    if rows_given:
        ctx.weight_gradients.add(rows)
    of_lstm = (None, None) if hidden is None else (d_hidden, d_cell)
    return d_input if ctx.needs_input_grad[0] else None, *of_lstm, *state, *(None,) * 6


def is_transformed() -> bool:
    """Whether a backward pass is differentiated again, or vectorised, so that it runs through the reference."""
    return is_differentiated_again() or torch._C._are_functorch_transforms_active()
