"""The operation ``lrua_step``: one memory step of LRUA, with its gradient. docs/equations.md has the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import compute_dtype, widen
from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua import reference
from mannkern.memories.lrua.ops.cosine_read import strength_gradient

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # memory, read, read weights, usage, write weights
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operation("lrua_step", "default")
def _save(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The results; then cosines (B, R, N), norms (B, N) and the least used slots (B, n), saved for backward."""
    saved = memory.new_empty(read_weights.shape), memory.new_empty(usage.shape)
    slots = memory.new_empty((memory.shape[0], num_least_used), dtype=torch.int64)
    return *_results(memory, read_weights, usage, key), *saved, slots


@operation("lrua_step", "recompute")
def _recompute(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The results; then marks (B, N), saved for backward: 1 + rank at a least used slot, 0 elsewhere."""
    return *_results(memory, read_weights, usage, key), memory.new_empty(usage.shape, dtype=torch.int8)


def _results(memory: Tensor, read_weights: Tensor, usage: Tensor, key: Tensor) -> Results:
    dtype = compute_dtype(memory)
    shapes = memory.shape, key.shape, read_weights.shape, usage.shape, read_weights.shape
    new_memory, read, new_read_weights, new_usage, write_weights = (memory.new_empty(s, dtype=dtype) for s in shapes)
    return new_memory, read, new_read_weights, new_usage, write_weights


@operation("lrua_step_backward", "default")
def _save_backward(
    grad_memory: Tensor | None,
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_write_weights: Tensor | None,
    previous_read_weights: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    write_weights: Tensor,
    cosine: Tensor,
    norm: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
) -> Gradients:
    """Gradients of memory, read weights, usage, key, add, gate and strength; the last is (B, 0) without strengths."""
    state = *empty_like(memory, previous_read_weights), memory.new_empty(norm.shape)
    return *state, *empty_like(key, add, gate), strength_gradient(key, strength)


@operation("lrua_step_backward", "recompute")
def _recompute_backward(
    grad_memory: Tensor | None,
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_write_weights: Tensor | None,
    previous_read_weights: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    marks: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> Gradients:
    """Gradients of memory, read weights, usage, key, add, gate and strength; the last is (B, 0) without strengths."""
    state = *empty_like(memory, previous_read_weights), memory.new_empty(marks.shape)
    return *state, *empty_like(key, add, gate), strength_gradient(key, strength)


lrua_step = _save | _recompute
lrua_step_backward = _save_backward | _recompute_backward


def slots_of_marks(marks: Tensor, n: int) -> Tensor:
    """The n least used slots (..., n) of marks (..., N); in any order where a mark is no rank, which no step reads."""
    return torch.where(marks > 0, marks.short(), 128).sort(dim=-1, stable=True).indices[..., :n]


def _reference_save_backward(*args: Any) -> tuple[Tensor | None, ...]:
    """The gradients of the default overload in plain PyTorch."""
    *_, slots, per_head, decay = args
    return _reference_backward(args[:5], args[5:11], slots, per_head, decay)


def _reference_recompute_backward(*args: Any) -> tuple[Tensor | None, ...]:
    """The gradients of the overload "recompute" in plain PyTorch."""
    *_, marks, n, per_head, decay = args
    return _reference_backward(args[:5], args[5:11], slots_of_marks(marks, n), per_head, decay)


def _reference_backward(
    grads: Sequence[Tensor | None], saved: Sequence[Any], slots: Tensor, per_head: bool, decay: float
) -> tuple[Tensor | None, ...]:
    """saved: read weights before the step, key, add, gate and strength, and the memory after it."""
    read_weights, key, add, gate, memory = (widen(saved[i]) for i in (0, 1, 2, 3, 5))
    strength = saved[4]
    written = reference.additive_write(
        torch.zeros_like(memory), reference.write_weights(read_weights, gate, slots, per_head), add
    )
    before = memory - written  # the memory before the step, which is not saved, but for the slot that was reset
    usage = memory.new_zeros(memory.shape[:2])  # its values do not matter, because the slots are known
    arguments = before, read_weights, usage, key, add, gate, strength, slots.shape[-1], per_head, decay, slots
    return pull_back(reference.lrua_step, arguments, grads)[:7]


class LRUAStepFunction(MemoryFunction):
    """The arguments of ``lrua_step`` and the overload -> its five results, and what that overload saves besides."""

    @staticmethod
    @takes(lrua_step, "overload")
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *arguments, overload = args
        return below_autograd(lrua_step[overload], *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, previous_read_weights, _, key, add, gate, strength, *options, ctx.overload = inputs
        memory, _, read_weights, _, write_weights, *saved = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*saved)
        if ctx.overload == "default":  # reads the write weights, and n from the slots that it saved
            saved, options = [write_weights, *saved], options[1:]
        ctx.options = options
        ctx.save_for_backward(previous_read_weights, key, add, gate, strength, memory, read_weights, *saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        reference_backward = _reference_save_backward if ctx.overload == "default" else _reference_recompute_backward
        out = call_backward(lrua_step_backward[ctx.overload], reference_backward, *grads[:5], *saved, *ctx.options)
        return (*out[:6], None if saved[4] is None else out[6], None, None, None, None)


give_gradient(lrua_step, LRUAStepFunction.apply_fast)
