"""The torch.autograd.Function of each operation: kernels of :mod:`mannkern.ops` with their hand-written gradients.

Arguments are those of the kernels, already validated; what a kernel returns for its backward pass comes last among
the outputs and is not differentiable. ``vmap`` folds the mapped dimension into B. Gradients are not differentiable a
second time; the reference is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import mannkern.ops  # noqa: F401  defines torch.ops.mannkern

_ops = torch.ops.mannkern


def _signed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Function.apply works out the signature of ``forward`` at every call (20 us of ten arguments) unless given one."""
    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return forward


class _Batched(Function):
    """A Function whose tensors all have B in front."""

    generate_vmap_rule = False

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        K = info.batch_size
        folded = [
            arg if not isinstance(arg, Tensor) else _to_front(arg, dim, K).flatten(0, 1)
            for arg, dim in zip(args, in_dims, strict=True)
        ]
        out = cls.apply(*folded)
        if isinstance(out, Tensor):
            return out.unflatten(0, (K, -1)) if out.shape[0] else out.new_empty((K, *out.shape)), 0
        return tuple(x.unflatten(0, (K, x.shape[0] // K)) for x in out), (0,) * len(out)


class _FirstOrder(_Batched):
    """A backward kernel whose own derivative is an error, not zero."""

    @staticmethod
    @_signed
    def forward(kernel: Callable[..., Any], *args: Any) -> Any:
        return kernel(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("mannkern: a fused gradient cannot be differentiated a second time; backend='reference' can")


def _gradient(kernel: Callable[..., Any], *args: Any) -> Any:
    """Call a backward kernel; where its result may be differentiated (create_graph), so that this raises."""
    return _FirstOrder.apply(kernel, *args) if torch.is_grad_enabled() else kernel(*args)


def _to_front(x: Tensor, dim: int | None, K: int) -> Tensor:
    return x.expand(K, *x.shape) if dim is None else x.movedim(dim, 0)


class AdditiveWrite(_Batched):
    """memory, write_weights, add, reset -> memory."""

    @staticmethod
    @_signed
    def forward(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> Tensor:
        return _ops.additive_write(memory, write_weights, add, reset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradient(_ops.additive_write_backward, grad, *ctx.saved_tensors), None)


class CosineRead(_Batched):
    """memory, key, strength -> read, read_weights, cosine, norm."""

    @staticmethod
    @_signed
    def forward(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, ...]:
        return _ops.cosine_read(memory, key, strength)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grad_memory, grad_key, grad_strength = _gradient(_ops.cosine_read_backward, *grads[:2], *saved)
        return grad_memory, grad_key, None if saved[2] is None else grad_strength


class UsageUpdate(_Batched):
    """usage, read_weights, write_weights, decay -> usage."""

    @staticmethod
    @_signed
    def forward(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
        return _ops.usage_update(usage, read_weights, write_weights, decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.num_heads, ctx.decay = inputs[1].shape[1], inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradient(_ops.usage_update_backward, grad, ctx.num_heads, ctx.decay), None)


class LRUAStep(_Batched):
    """The arguments of the reference's step -> its five results, and cosine, norm and least used slots."""

    @staticmethod
    @_signed
    def forward(
        memory: Tensor,
        read_weights: Tensor,
        usage: Tensor,
        key: Tensor,
        add: Tensor,
        gate: Tensor,
        strength: Tensor | None,
        num_least_used: int,
        per_head: bool,
        decay: float,
    ) -> tuple[Tensor, ...]:
        return _ops.lrua_step(memory, read_weights, usage, key, add, gate, strength, num_least_used, per_head, decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, previous_read_weights, _, key, add, gate, strength, _, ctx.per_head, ctx.decay = inputs
        memory, _, read_weights, _, write_weights, cosine, norm, least_used = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(cosine, norm, least_used)
        ctx.save_for_backward(
            previous_read_weights,
            key,
            add,
            gate,
            strength,
            memory,
            read_weights,
            write_weights,
            cosine,
            norm,
            least_used,
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        out = _gradient(_ops.lrua_step_backward, *grads[:5], *saved, ctx.per_head, ctx.decay)
        return (*out[:6], None if saved[4] is None else out[6], None, None, None)


class MANNLSTM(Function):
    """A whole episode of MANN with an LSTM controller; the arguments are those of the kernel ``mann_lstm``.

    -> outputs, and memory, usage, read_weights and cell after the last step; then what the kernel saved of every step.
    """

    @staticmethod
    @_signed
    def forward(
        input: Tensor,
        input_weight: Tensor,
        bias: Tensor,
        recurrent_weight: Tensor,
        interface_weight: Tensor,
        interface_bias: Tensor,
        output: Tensor,
        cell: Tensor,
        memory: Tensor,
        read_weights: Tensor,
        usage: Tensor,
        num_least_used: int,
        per_head: bool,
        decay: float,
    ) -> tuple[Tensor, ...]:
        outputs, memory, usage, *saved = _ops.mann_lstm(
            input,
            input_weight,
            bias,
            recurrent_weight,
            interface_weight,
            interface_bias,
            output,
            cell,
            memory,
            read_weights,
            usage,
            num_least_used,
            per_head,
            decay,
        )
        _, reads, _, _, cells, *_ = saved
        return outputs, memory, usage, reads[-1].clone(), cells[-1].clone(), *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        input, input_weight, _, recurrent_weight, interface_weight, _, *state, _, _, ctx.per_head, ctx.decay = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[5:])
        ctx.save_for_backward(
            input, input_weight, recurrent_weight, interface_weight, *state[:4], output[0], *output[5:]
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wants_input = ctx.needs_input_grad[0]
        grad_input, *others = _gradient(
            _ops.mann_lstm_backward, *grads[:5], *ctx.saved_tensors, ctx.per_head, ctx.decay, wants_input
        )
        return (grad_input if wants_input else None, *others, None, None, None)
