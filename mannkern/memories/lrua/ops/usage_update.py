"""The operation ``usage_update``: usage (docs/equations.md), with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype
from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, pull_back, takes
from mannkern.memories.library import operation
from mannkern.memories.lrua import reference


@operation("usage_update", "default", "recompute")
def usage_update(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    """usage (B, N), read and write weights (B, R, N) -> usage (B, N)."""
    return usage.new_empty(usage.shape, dtype=compute_dtype(usage))


@operation("usage_update_backward", "default", "recompute")
def usage_update_backward(grad: Tensor, num_heads: int, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the result -> those of usage, read weights and write weights."""
    weights = (grad.shape[0], num_heads, grad.shape[1])
    return grad.new_empty(grad.shape), grad.new_empty(weights), grad.new_empty(weights)


def _reference_backward(grad: Tensor, num_heads: int, decay: float) -> Any:
    """The same gradients; they do not depend on the arguments, in which usage is linear."""
    weights = grad.new_zeros((grad.shape[0], num_heads, grad.shape[1]))
    return pull_back(reference.usage_update, (torch.zeros_like(grad), weights, weights, decay), (grad,))[:3]


class UsageUpdateFunction(MemoryFunction):
    """The arguments of ``usage_update`` and the overload -> usage."""

    @staticmethod
    @takes(usage_update, "overload")
    def forward(*args: Any) -> Tensor:
        *arguments, overload = args
        return below_autograd(usage_update[overload], *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.num_heads, ctx.decay, ctx.overload = inputs[1].shape[1], inputs[3], inputs[4]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operation = usage_update_backward[ctx.overload]
        return (*call_backward(operation, _reference_backward, grad, ctx.num_heads, ctx.decay), None, None)


give_gradient(usage_update, UsageUpdateFunction.apply_fast)
