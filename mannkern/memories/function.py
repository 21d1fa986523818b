"""What the autograd Functions share: fast calls, vmap, and derivatives of gradients, taken through the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from mannkern.memories.checks import widen, without_autocast


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


def below_autograd(operation: Callable[..., Any], *args: Any) -> Any:
    """Call an operation from a Function's forward, past the gradient that a direct call has: that takes 5 us."""
    if torch.compiler.is_compiling():
        return operation(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return operation(*args)


class FastFunction(Function):
    """A Function with a fast way to apply it."""

    @classmethod
    def apply_fast(cls, *args: Any) -> Any:
        """``apply`` without its handling of keywords and torch.func, which takes an eighth of a step at B = 16."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return cls.apply(*args)
        return super(Function, cls).apply(*args)  # type: ignore[misc]


class MemoryFunction(FastFunction):
    """A Function whose tensors have the batch B as dimension 0, except those listed in ``batch_at_dim1``.

    batch_at_dim1: places of the inputs, and of the outputs, that have time as dimension 0 and the batch as dimension 1.
    """

    generate_vmap_rule = False
    batch_at_dim1: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

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


class Gradient(MemoryFunction):
    """A backward operation, whose own derivatives of any order are those of the reference.

    Its arguments are the operation, a function that computes the same gradients in plain PyTorch from the same
    arguments, and these arguments: tensors or None, then options.
    """

    @staticmethod
    def forward(operation: Callable[..., Any], reference: Callable[..., Any], *args: Any) -> Any:
        return operation(*args)

    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]  # computed once, as by ``takes``

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, ctx.reference, *args = inputs
        tensors = [x for x in args if x is None or isinstance(x, Tensor)]
        ctx.options = args[len(tensors) :]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        args = (*ctx.saved_tensors, *ctx.options)
        return None, None, *pull_back(ctx.reference, args, grads, ctx.needs_input_grad[2:])


def pull_back(
    function: Callable[..., Any], args: Sequence[Any], grads: Sequence[Tensor | None], needed: Sequence[bool] = ()
) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of ``function`` from those of its results, by autograd; differentiable again.

    A gradient of None counts as zeros. Arguments that are no float tensor have none, nor have those that are not
    ``needed``, by default all of them. Half precision is widened first, as the kernels widen it.
    """
    args, grads = _alive(args), _alive(grads)
    places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.is_floating_point()]
    places = [i for i in places if not needed or needed[i]]
    present: list[Tensor | None] = []  # gradients of the results that are not None

    def results(*values: Tensor) -> tuple[Tensor, ...]:
        wide = [widen(x) if isinstance(x, Tensor) else x for x in args]
        for i, x in zip(places, values, strict=True):
            wide[i] = widen(x)
        out = function(*wide)
        out = out if isinstance(out, tuple) else (out,)
        present[:] = [g for x, g in zip(out, grads, strict=True) if x is not None]
        return tuple(x for x in out if x is not None)

    def of(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        pairs = zip(outputs, present, strict=True)
        return tuple(torch.zeros_like(x) if g is None else g.to(x.dtype) for x, g in pairs)

    inputs: list[Tensor] = [args[i] for i in places]
    device = next((x.device for x in args if isinstance(x, Tensor)), torch.device("cpu"))
    with without_autocast(device):  # a gradient is in float32, also where the user calls backward within autocast
        got: Sequence[Tensor | None]
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            outputs, pull, *_ = torch.func.vjp(results, *inputs)
            got = pull(of(outputs))
        else:  # torch.func allows no hooks of saved tensors
            got = autograd_gradients(results, inputs, of)
    by_place = dict(zip(places, got, strict=True))
    return tuple(by_place.get(i) for i in range(len(args)))


def autograd_gradients(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    grads_of: Callable[[tuple[Tensor, ...]], Sequence[Tensor | None]],
) -> Sequence[Tensor | None]:
    """Gradients of the inputs of ``function`` from those of its results, within a backward pass.

    grads_of: results -> their gradients; a gradient of None counts as zeros. Where the backward pass is differentiated
    again, so are these gradients. An input on which no result depends has None.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # A tensor that is two inputs has a gradient for each: a view of its own.
        own = [x.view_as(x) if again and x.requires_grad else x.detach().requires_grad_() for x in inputs]
        results = function(*own)
    pairs = [(x, g) for x, g in zip(results, grads_of(results), strict=True) if x.requires_grad and g is not None]
    if not pairs:
        return [None] * len(own)
    outputs, grads = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, own, grads, create_graph=again, allow_unused=True)


def _alive(args: Sequence[Any]) -> list[Any]:
    """The arguments without wrappers of transforms that have ended, as those of torch.func.vjp when its result runs."""
    return [torch._C._functorch.unwrap_if_dead(x) if isinstance(x, Tensor) else x for x in args]


def gradient_of(function: Callable[..., Any], results: int, arguments: int) -> Callable[..., tuple[Tensor | None, ...]]:
    """The gradients of ``function``, which take those of its results, its arguments, and more that they ignore."""
    return lambda *args: pull_back(function, args[results : results + arguments], args[:results])


def is_differentiated_again() -> bool:
    """Whether a backward pass is itself differentiated: under create_graph, or with tangents of forward mode."""
    return (torch.is_grad_enabled() and not torch.compiler.is_compiling()) or forward_ad._current_level >= 0


def call_backward(
    operation: Callable[..., Any], reference: Callable[..., Any], *args: Any, function: type[Gradient] = Gradient
) -> Any:
    """Call a backward operation; ``reference`` computes the same gradients where they are differentiated again."""
    if forward_ad._current_level >= 0:
        return reference(*args)
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return function.apply(operation, reference, *args)
    return operation(*args)
