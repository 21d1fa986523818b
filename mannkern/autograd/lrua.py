"""LRUA's Functions. The last argument is the backend, "cpp" or "triton"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import mannkern.ops
import mannkern.triton.ops  # noqa: F401  both define operations
from mannkern.autograd.function import Batched, FirstOrder, gradient, signed

_OPS = {"cpp": torch.ops.mannkern, "triton": torch.ops.mannkern_triton}


class AdditiveWrite(Batched):
    """memory, write_weights, add, reset, backend -> memory."""

    @staticmethod
    @signed
    def forward(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None, backend: str) -> Tensor:
        return _OPS[backend].additive_write(memory, write_weights, add, reset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *saved, ctx.backend = inputs[1:]
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*gradient(_OPS[ctx.backend].additive_write_backward, grad, *ctx.saved_tensors), None, None)


class CosineRead(Batched):
    """memory, key, strength, backend -> read, read_weights, what else the backend saves."""

    @staticmethod
    @signed
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
        grad_memory, grad_key, grad_strength = gradient(kernel, *grads[:2], *saved)
        return grad_memory, grad_key, None if saved[2] is None else grad_strength, None


class UsageUpdate(Batched):
    """usage, read_weights, write_weights, decay, backend -> usage."""

    @staticmethod
    @signed
    def forward(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float, backend: str) -> Tensor:
        return _OPS[backend].usage_update(usage, read_weights, write_weights, decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.num_heads, ctx.decay, ctx.backend = inputs[1].shape[1], inputs[3], inputs[4]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel = _OPS[ctx.backend].usage_update_backward
        return (*gradient(kernel, grad, ctx.num_heads, ctx.decay), None, None)


class LRUAStep(Batched):
    """The arguments of the reference's step, and the backend -> its five results, and what else the backend saves."""

    @staticmethod
    @signed
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
        out = gradient(_OPS[ctx.backend].lrua_step_backward, *grads[:5], *saved, *ctx.options)
        return (*out[:6], None if saved[4] is None else out[6], None, None, None, None)


class _ScanGradient(FirstOrder):
    second = ((1, 8, 9, 10, 11, 12), (3, 4, 5, 6))  # as FirstOrder counts, the kernel being argument 0


class _TritonScanGradient(FirstOrder):
    second = ((1, 7, 8, 9, 10, 11, 12, 13), (3, 4, 5, 6))


class LRUAScan(Batched):
    """The arguments of the backend's kernel ``lrua_scan``, and the backend -> reads, state, and what it saves."""

    second = ((3, 4, 5, 6), (0, 4, 5, 6))

    @staticmethod
    @signed
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
        backend: str,
    ) -> tuple[Tensor, ...]:
        return _OPS[backend].lrua_scan(
            memory, read_weights, usage, keys, adds, gates, strengths, num_least_used, per_head, decay, keep
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        memory, read_weights, usage, *asked = inputs[:7]
        *ctx.options, _, ctx.backend = inputs[7:]
        ctx.strengths = asked[3] is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        state = (memory, read_weights) if ctx.backend == "triton" else (memory, read_weights, usage)
        ctx.save_for_backward(*state, *asked, *output[4:])  # Triton's kernel saved the slots of every step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        function = _TritonScanGradient if ctx.backend == "triton" else _ScanGradient
        kernel = _OPS[ctx.backend].lrua_scan_backward
        out = gradient(kernel, *grads[:4], *ctx.saved_tensors, *ctx.options, function=function)
        return (*out[:6], out[6] if ctx.strengths else None, None, None, None, None, None)
