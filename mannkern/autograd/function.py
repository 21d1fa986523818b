"""What the Functions share: folding of a mapped dimension, and gradients that are of first order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def signed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Function.apply works out the signature of ``forward`` at every call (20 us of ten arguments) unless given one."""
    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return forward


class Batched(Function):
    """A Function whose tensors have B in front, but for the inputs and outputs whose place is in ``second``."""

    generate_vmap_rule = False
    second: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @classmethod
    def call(cls, *args: Any) -> Any:
        """``apply`` without what that does for keywords and torch.func at every call: an eighth of a step at B = 16."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return cls.apply(*args)
        return super(Function, cls).apply(*args)  # type: ignore[misc]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        K = info.batch_size
        inputs, outputs = cls.second
        folded = [
            _fold(arg, dim, K, int(i in inputs)) if isinstance(arg, Tensor) else arg
            for i, (arg, dim) in enumerate(zip(args, in_dims, strict=True))
        ]
        out = cls.apply(*folded)
        if isinstance(out, Tensor):
            return _unfold(out, K, 0), 0
        axes = tuple(int(i in outputs) for i in range(len(out)))
        return tuple(_unfold(x, K, axis) for x, axis in zip(out, axes)), axes


def _fold(x: Tensor, dim: int | None, K: int, axis: int) -> Tensor:
    """The mapped dimension, where there is one, into B, which is at ``axis``."""
    x = x.unsqueeze(axis).expand(*x.shape[:axis], K, *x.shape[axis:]) if dim is None else x.movedim(dim, axis)
    return x.flatten(axis, axis + 1)


def _unfold(x: Tensor, K: int, axis: int) -> Tensor:
    return x.unflatten(axis, (K, x.shape[axis] // K))


class FirstOrder(Batched):
    """A backward kernel whose own derivative is an error, not zero."""

    @staticmethod
    @signed
    def forward(kernel: Callable[..., Any], *args: Any) -> Any:
        return kernel(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("mannkern: a fused gradient cannot be differentiated a second time; backend='reference' can")


def gradient(kernel: Callable[..., Any], *args: Any, function: type[FirstOrder] = FirstOrder) -> Any:
    """Call a backward kernel; where its result may be differentiated (create_graph), so that this raises."""
    return function.apply(kernel, *args) if torch.is_grad_enabled() else kernel(*args)
