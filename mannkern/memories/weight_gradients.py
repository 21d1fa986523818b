"""The gradients of a cell's weights over many fused steps: rows of each step, multiplied at once.

A backward step gives no gradients of weights, but rows: one for each episode, of the numbers that these gradients are
products of. :class:`WeightGradients` multiplies the rows of many steps at once, where each step alone would write and
add gradients as large as the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction

from mannkern.memories.library import operation

Weights = tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor, Tensor]
Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
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
        return (None,) * 6 if sums is None else self._by_weight(sums)

    def of(self, rows: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the weights from the rows of one step, where the sum cannot wait for the others."""
        return self._by_weight(cell_weight_gradients["default"](rows, *self.sizes))

    def zeros(self) -> tuple[Tensor | None, ...]:
        """What is left to add to the gradients of :meth:`of`."""
        return tuple(None if weight is None else torch.zeros_like(weight) for weight in self.weights)

    def _by_weight(self, gradients: Five) -> tuple[Tensor | None, ...]:
        weight, recurrent, bias, interface, interface_bias = gradients
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
        gradients: WeightGradients = ctx.gradients
        grads = gradients.zeros() if _is_compiled(ctx) else gradients.take()
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


def gives_rows(ctx: Any) -> bool:
    """Whether this backward pass comes to the weights of the step, and takes its rows then."""
    if not any(ctx.needs_input_grad[7:13]):
        return False
    return _is_compiled(ctx) or torch._C._will_engine_execute_node(ctx.after_steps.grad_fn)


def gradients_for_autograd(
    ctx: Any, out: Sequence[Tensor], hidden: Tensor | None, rows_given: bool, num_options: int
) -> tuple[Tensor | None, ...]:
    """The gradients of a backward step in the form that autograd takes, of all arguments of the step's function.

    Those of weights come after all steps, in :class:`WeightsFunction`. Compiled autograd gets them here: it adds the
    gradients of the steps up, and knows no None in a sum.
    """
    d_input, d_hidden, d_cell, *state, rows = out
    weights: tuple[Tensor | None, ...] = (None,) * 6
    after = None
    if _is_compiled(ctx):
        after = rows.new_zeros(0)
        if rows_given:
            needed = ctx.needs_input_grad[7:13]
            weights = tuple(
                g if is_needed else None for g, is_needed in zip(ctx.weight_gradients.of(rows), needed, strict=True)
            )
    elif rows_given:
        ctx.weight_gradients.add(rows)
    of_lstm = (None, None) if hidden is None else (d_hidden, d_cell)
    of_input = d_input if ctx.needs_input_grad[0] else None
    return of_input, *of_lstm, *state, *weights, *(None,) * (num_options + 1), after


def _is_compiled(ctx: Any) -> bool:
    """Whether compiled autograd runs this backward pass, whose context is a stand-in for that of the engine."""
    return not isinstance(ctx, BackwardCFunction)
