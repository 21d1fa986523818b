"""The autograd Function of a fused episode, which is the same for every family and every overload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.memories.direct import give_gradient
from mannkern.memories.function import FastFunction, below_autograd, is_differentiated_again, pull_back, takes

CONTROLLER = 8  # arguments of the controller, which come first; see mannkern.memories.episode
WEIGHTS = 1, 3, 4  # of the input, recurrent and interface, among them
ENDS = 3  # lengths, reset and initial memory, which follow the parts of the state


class EpisodeOperation(NamedTuple):
    """A fused episode and its gradient, of one overload.

    forward takes the arguments of the controller, the parts of the memory's state, lengths, reset and initial memory,
    options, and ``save_for_backward``. It returns the outputs, these parts of the state and the cell after the last
    step, and what it saves.

    backward takes the gradients of the results that are not saved, the arguments of the controller but the two biases,
    some parts of the state, the outputs, what was saved, lengths, reset and initial memory, options, and
    ``needs_input_grad``. It returns the gradients of the controller's arguments, of the state and of the initial
    memory.

    name:      the name of the Function, which profilers show
    forward, backward: the operations by overload
    overload:  the one that is called
    states:    the number of parts of the memory's state
    kept:      how many of them, the first ones, backward takes
    skipped:   how many options, the first ones, backward does not take
    reference: the episode in plain PyTorch: (tensors of forward, options, choices) -> results that are not saved
    weights_dtype: what weights are rounded to, unless it is None, before either operation takes them
    choices:   (what was saved, options) -> what forward chose, which the reference must not choose otherwise
    """

    name: str
    forward: Mapping[str, Callable[..., Any]]
    backward: Mapping[str, Callable[..., Any]]
    overload: str
    states: int
    kept: int
    reference: Callable[..., tuple[Tensor | None, ...]]
    skipped: int = 0
    weights_dtype: torch.dtype | None = None
    choices: Callable[[Sequence[Tensor], Sequence[Any]], tuple[Tensor, ...]] = lambda saved, options: ()


def episode_function(operation: EpisodeOperation) -> type[FastFunction]:
    """The Function whose arguments and results are those of ``forward``."""
    states, tensors = operation.states, CONTROLLER + operation.states + ENDS
    results = 2 + states  # that are not saved

    def rounded(args: Sequence[Any], weights: Sequence[int]) -> Sequence[Any]:
        dtype = operation.weights_dtype
        return args if dtype is None else [x.to(dtype) if i in weights else x for i, x in enumerate(args)]

    called = {operation.overload: operation.forward[operation.overload]}

    @takes(called)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = below_autograd(operation.forward[operation.overload], *rounded(args, WEIGHTS))
        return out

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.options = inputs[tensors:-1]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[results:])
        ctx.save_for_backward(*inputs[:tensors], output[0], *output[results:])

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        unpacked = ctx.saved_tensors  # once: torch.utils.checkpoint allows no second time
        args, (outputs, *saved) = unpacked[:tensors], unpacked[tensors:]
        no_options = (None,) * (len(ctx.options) + 1)
        if is_differentiated_again():
            choices = operation.choices(saved, ctx.options)
            needed = (*ctx.needs_input_grad[:-1], *[False] * len(choices))
            every = (*args, *ctx.options, *choices)
            found = pull_back(operation.reference, every, grads[:results], needed)[:tensors]
            return (*found, *no_options)
        input, input_weight, _, recurrent_weight, interface_weight, _, output, cell = args[:CONTROLLER]
        weights, ends = rounded((input_weight, recurrent_weight, interface_weight), range(3)), args[-ENDS:]
        state = args[CONTROLLER : CONTROLLER + operation.kept]
        d_input, *found, d_initial = operation.backward[operation.overload](
            *grads[:results], input, *weights, output, cell, *state, outputs, *saved, *ends,
            *ctx.options[operation.skipped :], ctx.needs_input_grad[0],
        )  # fmt: skip
        before, d_cell, rest = found[: CONTROLLER - 2], found[CONTROLLER - 2], found[CONTROLLER - 1 :]
        first, d_cell = d_input if ctx.needs_input_grad[0] else None, None if cell is None else d_cell
        return (first, *before, d_cell, *rest, None, None, None if ends[1] is None else d_initial, *no_options)

    methods: dict[str, Any] = {"forward": forward, "setup_context": setup_context, "backward": backward}
    static = {name: staticmethod(method) for name, method in methods.items()}
    function: type[FastFunction] = type(operation.name, (FastFunction,), static)
    if operation.weights_dtype is None:  # else a direct call has weights that are rounded already
        give_gradient(called, lambda *args: function.apply_fast(*args[:-2], True))
    return function
