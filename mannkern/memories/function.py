"""Base classes of the autograd Functions: fast calls, vmap, and an error where a gradient is differentiated again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def takes(operation: Mapping[str, Any], *others: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a ``forward(*args)`` the signature of an operation, with ``others`` after its arguments.

    torch.compile counts the parameters to find out whether a forward takes a ctx. Function.apply reads them too;
    without a stored signature it would compute one at every call, which takes 20 us for ten arguments.
    """
    names = [argument.name for argument in next(iter(operation.values()))._schema.arguments]

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in (*names, *others)]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return forward

    return decorate


class MemoryFunction(Function):
    """A Function whose tensors have the batch B as dimension 0, except those listed in ``batch_at_dim1``.

    batch_at_dim1: places of the inputs, and of the outputs, that have time as dimension 0 and the batch as dimension 1.
    """

    generate_vmap_rule = False
    batch_at_dim1: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @classmethod
    def apply_fast(cls, *args: Any) -> Any:
        """``apply`` without its handling of keywords and torch.func, which takes an eighth of a step at B = 16."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return cls.apply(*args)
        return super(Function, cls).apply(*args)  # type: ignore[misc]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        K = info.batch_size
        inputs, outputs = cls.batch_at_dim1
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
    """Merge the mapped dimension of size K into the batch, which is at ``axis``; repeat x where it is not mapped."""
    x = x.unsqueeze(axis).expand(*x.shape[:axis], K, *x.shape[axis:]) if dim is None else x.movedim(dim, axis)
    return x.flatten(axis, axis + 1)


def _unfold(x: Tensor, K: int, axis: int) -> Tensor:
    return x.unflatten(axis, (K, x.shape[axis] // K))


class OnceDifferentiable(MemoryFunction):
    """A backward operation whose own derivative raises an error, so that it is never silently zero."""

    @staticmethod
    def forward(operation: Callable[..., Any], *args: Any) -> Any:
        return operation(*args)

    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]  # computed once, as by ``takes``

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("mannkern: a fused gradient cannot be differentiated a second time; backend='reference' can")


def call_backward(
    operation: Callable[..., Any], *args: Any, function: type[OnceDifferentiable] = OnceDifferentiable
) -> Any:
    """Call a backward operation; under create_graph through ``function``, so that a second derivative is an error."""
    return function.apply(operation, *args) if torch.is_grad_enabled() else operation(*args)
