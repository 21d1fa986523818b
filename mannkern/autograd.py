"""The torch.autograd.Function of each operation: kernels of a backend with their hand-written gradients.

Arguments are those of the kernels, already validated, and the backend, "cpp" (:mod:`mannkern.ops`) or "triton"
(:mod:`mannkern.triton.ops`); what a kernel returns for its backward pass comes last among the outputs and is not
differentiable. ``vmap`` folds the mapped dimension into B. Gradients are not differentiable a second time; the
reference is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import mannkern.ops
import mannkern.triton.ops  # noqa: F401  both define operations

_OPS = {"cpp": torch.ops.mannkern, "triton": torch.ops.mannkern_triton}


def _signed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Function.apply works out the signature of ``forward`` at every call (20 us of ten arguments) unless given one."""
    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return forward


class _Batched(Function):
    """A Function whose tensors have B in front, but for the inputs and outputs whose place is in ``second``."""

    generate_vmap_rule = False
    second: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

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


class AdditiveWrite(_Batched):
    """memory, write_weights, add, reset, backend -> memory."""

    @staticmethod
    @_signed
    def forward(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None, backend: str) -> Tensor:
        return _OPS[backend].additive_write(memory, write_weights, add, reset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *saved, ctx.backend = inputs[1:]
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_gradient(_OPS[ctx.backend].additive_write_backward, grad, *ctx.saved_tensors), None, None)


class CosineRead(_Batched):
    """memory, key, strength, backend -> read, read_weights, what else the backend saves."""

    @staticmethod
    @_signed
    def forward(memory: Tensor, key: Tensor, strength: Tensor | None, backend: str) -> tuple[Tensor, ...]:
        return _OPS[backend].cosine_read(memory, key, strength)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *arguments, ctx.backend = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(*arguments, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        kernel = _OPS[ctx.backend].cosine_read_backward
        grad_memory, grad_key, grad_strength = _gradient(kernel, *grads[:2], *saved)
        return grad_memory, grad_key, None if saved[2] is None else grad_strength, None


class UsageUpdate(_Batched):
    """usage, read_weights, write_weights, decay, backend -> usage."""

    @staticmethod
    @_signed
    def forward(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float, backend: str) -> Tensor:
        return _OPS[backend].usage_update(usage, read_weights, write_weights, decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.num_heads, ctx.decay, ctx.backend = inputs[1].shape[1], inputs[3], inputs[4]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel = _OPS[ctx.backend].usage_update_backward
        return (*_gradient(kernel, grad, ctx.num_heads, ctx.decay), None, None)


class LRUAStep(_Batched):
    """The arguments of the reference's step, and the backend -> its five results, and what else the backend saves."""

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
        backend: str,
    ) -> tuple[Tensor, ...]:
        return _OPS[backend].lrua_step(
            memory, read_weights, usage, key, add, gate, strength, num_least_used, per_head, decay
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, previous_read_weights, _, key, add, gate, strength, *options, ctx.backend = inputs
        memory, _, read_weights, _, write_weights, *saved = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*saved)
        if ctx.backend == "cpp":  # takes the write weights and counts the slots it saved
            saved, options = [write_weights, *saved], options[1:]
        ctx.options = options
        ctx.save_for_backward(previous_read_weights, key, add, gate, strength, memory, read_weights, *saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        out = _gradient(_OPS[ctx.backend].lrua_step_backward, *grads[:5], *saved, *ctx.options)
        return (*out[:6], None if saved[4] is None else out[6], None, None, None, None)


class LRUAScan(_Batched):
    """The arguments of the kernel ``lrua_scan`` of the Triton backend -> reads, state, and what it saves."""

    second = ((3, 4, 5, 6), (0, 4, 5, 6))

    @staticmethod
    @_signed
    def forward(
        memory: Tensor,
        read_weights: Tensor,
        usage: Tensor,
        keys: Tensor,
        adds: Tensor,
        gates: Tensor,
        strengths: Tensor | None,
        num_least_used: int,
        per_head: bool,
        decay: float,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        return _OPS["triton"].lrua_scan(
            memory, read_weights, usage, keys, adds, gates, strengths, num_least_used, per_head, decay, keep
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        memory, read_weights, _, keys, adds, gates, strengths, *ctx.options, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        ctx.save_for_backward(memory, read_weights, keys, adds, gates, strengths, *output[4:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        out = _gradient(_OPS["triton"].lrua_scan_backward, *grads[:4], *saved, *ctx.options)
        return (*out[:6], None if saved[5] is None else out[6], None, None, None, None)


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
        outputs, memory, usage, *saved = _OPS["cpp"].mann_lstm(
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
            _OPS["cpp"].mann_lstm_backward, *grads[:5], *ctx.saved_tensors, ctx.per_head, ctx.decay, wants_input
        )
        return (grad_input if wants_input else None, *others, None, None, None)
