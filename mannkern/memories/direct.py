"""Gradients of operations that are called without their autograd Function, as an exported program calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.function import autograd_gradients
from mannkern.memories.library import library


def give_gradient(operation: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Register the gradient of an operation's overloads with PyTorch's dispatcher.

    function: (arguments of the operation, overload) -> the same results, by the autograd Function.

    A direct call saves its arguments alone, and its backward pass computes the results again through ``function``. So
    it takes a step's time more than the Function does, and a call without a gradient costs no memory. What a Function
    saves besides its results has no gradient. The graph of torch.compile calls operations directly too, without a
    gradient, and PyTorch's look at whether one is needed takes 5 us a call there.
    """
    for overload, call in operation.items():
        _register(call, overload, function)


def _register(call: Any, overload: str, function: Callable[..., Any]) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))
        ctx.args = [None if isinstance(x, Tensor) else x for x in inputs]
        ctx.tensors = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        args = list(ctx.args)
        for i, x in zip(ctx.tensors, ctx.saved_tensors, strict=True):
            args[i] = x
        places = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]

        def results(*inputs: Tensor) -> tuple[Tensor, ...]:
            again = list(args)
            for i, x in zip(places, inputs, strict=True):
                again[i] = x
            out = function(*again, overload)
            return out if isinstance(out, tuple) else (out,)

        got = autograd_gradients(results, [args[i] for i in places], lambda _: grads)
        by_place = dict(zip(places, got, strict=True))
        return tuple(by_place.get(i) for i in range(len(args)))

    torch.library.register_autograd(call, backward, setup_context=setup_context, lib=library)
