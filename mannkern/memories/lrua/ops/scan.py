"""The operation ``lrua_scan``: T memory steps of LRUA with interface vectors known beforehand, with its gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mannkern.backends import native
from mannkern.memories import episode
from mannkern.memories.checks import compute_dtype
from mannkern.memories.direct import give_gradient
from mannkern.memories.function import Gradient, MemoryFunction, below_autograd, call_backward, pull_back, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.lrua import reference
from mannkern.memories.lrua.ops.step import slots_of_marks

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def checkpoint_every(T: int) -> int:
    """Steps between two checkpoints of the default overload, as in csrc/cpu/scan_ops.cpp: at most 7 checkpoints."""
    return torch.sym_max(math.ceil(torch.sym_sqrt(torch.sym_min(T, 64))), (T + 7) // 8)  # T may be symbolic


def recompute_checkpoint_every(T: int) -> int:
    """Steps between two checkpoints of the overload "recompute": twice the square root of T.

    The steps between two checkpoints are computed again in scratch memory, which each program has, not each episode. A
    large batch has more episodes than programs, so the least memory takes fewer checkpoints than sqrt(T).
    """
    return torch.sym_min(math.ceil(2 * torch.sym_sqrt(T)), T)  # T may be symbolic, under torch.compile


@operation("lrua_scan", "default")
def _save(
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
    save_for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Reads (T, B, R, W) and the last state; then checkpoints of the state (count, B, blocks, numbers of a block)."""
    T, B, R, W = keys.shape
    N, block = memory.shape[1], native.block(memory.dtype)
    count = (T - 1) // checkpoint_every(T) if save_for_backward else 0
    last_memory, last_read_weights, last_usage = empty_like(memory, read_weights, usage)
    checkpoints = memory.new_empty((count, B, (N + block - 1) // block, block * (W + R + 1)))
    return memory.new_empty(keys.shape), last_memory, last_read_weights, last_usage, checkpoints


@operation("lrua_scan", "recompute")
def _recompute(
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
    save_for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Reads and the last state; then marks (T, B, N), and checkpoints of memory and read weights (count, B, ...)."""
    T, dtype = keys.shape[0], compute_dtype(memory)
    steps, count = (T, -(-T // recompute_checkpoint_every(T)) - 1) if save_for_backward else (0, 0)
    reads, last_memory, last_read_weights, last_usage = (
        memory.new_empty(x.shape, dtype=dtype) for x in (keys, memory, read_weights, usage)
    )
    marks = memory.new_empty((steps, *usage.shape), dtype=torch.int8)
    checkpoints = memory.new_empty((count, *memory.shape), dtype=dtype)
    weights_checkpoints = memory.new_empty((count, *read_weights.shape), dtype=dtype)
    return reads, last_memory, last_read_weights, last_usage, marks, checkpoints, weights_checkpoints


@operation("lrua_scan", "cosines")
def _cosines(
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
    save_for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Reads and the last state; then marks (T, B, N), checkpoints of the memory, and cosines (T, B, R, N + 2).

    Behind the cosines of a head are its largest logit and the sum of its exponentials, from which read weights follow.
    They take a tenth of a memory's space, and with them to compute a memory again is its write alone.
    """
    T = keys.shape[0]
    steps, count = (T, (T - 1) // episode.checkpoint_every(T)) if save_for_backward else (0, 0)
    marks = memory.new_empty((steps, *usage.shape), dtype=torch.int8)
    B, R, N = read_weights.shape
    saved = marks, memory.new_empty((count, *memory.shape)), memory.new_empty((steps, B, R, N + 2))
    return memory.new_empty(keys.shape), *empty_like(memory, read_weights, usage), *saved


@operation("lrua_scan_backward", "default")
def _save_backward(
    grad_reads: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    keys: Tensor,
    adds: Tensor,
    gates: Tensor,
    strengths: Tensor | None,
    checkpoints: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> Gradients:
    """Gradients of memory, read weights, usage, keys, adds, gates and strengths; the last (T, B, 0) without them."""
    inputs = empty_like(memory, read_weights, usage, keys, adds, gates)
    return *inputs, _strengths_gradient(keys, strengths)


@operation("lrua_scan_backward", "recompute", "cosines")
def _recompute_backward(
    grad_reads: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    keys: Tensor,
    adds: Tensor,
    gates: Tensor,
    strengths: Tensor | None,
    marks: Tensor,
    checkpoints: Tensor,
    weights_checkpoints: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> Gradients:
    """The same gradients. Usage is not an argument, since the marks of every step were saved."""
    dtype = compute_dtype(memory)
    d_memory, d_usage = memory.new_empty(memory.shape, dtype=dtype), memory.new_empty(marks.shape[1:], dtype=dtype)
    d_read_weights, *interface = empty_like(read_weights, keys, adds, gates)
    return d_memory, d_read_weights, d_usage, *interface, _strengths_gradient(keys, strengths)


def _strengths_gradient(keys: Tensor, strengths: Tensor | None) -> Tensor:
    return keys.new_empty((*keys.shape[:2], 0)) if strengths is None else strengths.new_empty(strengths.shape)


lrua_scan = _save | _recompute | _cosines
lrua_scan_backward = _save_backward | _recompute_backward


def _reference_save_backward(*args: Any) -> tuple[Tensor | None, ...]:
    """The gradients of the default overload in plain PyTorch."""
    *_, n, per_head, decay = args
    return _reference_backward(args[:4], args[4:11], _slots(args[4:11], n, per_head, decay), per_head, decay)


def _reference_recompute_backward(*args: Any) -> tuple[Tensor | None, ...]:
    """The gradients of the overloads "recompute" and "cosines" in plain PyTorch."""
    grads, (memory, read_weights, *interface), (marks, _, _, n, per_head, decay) = args[:4], args[4:10], args[10:]
    usage = memory.new_zeros(memory.shape[:2])  # its values do not matter, because the slots are known
    arguments = memory, read_weights, usage, *interface
    return _reference_backward(grads, arguments, slots_of_marks(marks, n), per_head, decay)


@torch.no_grad()
def _slots(arguments: tuple[Any, ...], n: int, per_head: bool, decay: float) -> Tensor:
    """The least used slots (T, B, n) of the kernel's own usages: those of the reference round to other choices."""
    memory, read_weights, usage, *interface = arguments
    slots = []
    for t in range(len(interface[0])):
        slots.append(reference.least_used_slots(usage, n))
        step = (x if x is None else x[t : t + 1] for x in interface)
        args = (memory, read_weights, usage, *step, n, per_head, decay, False, "default")
        _, memory, read_weights, usage, _ = LRUAScanFunction.apply_fast(*args)
    return torch.stack(slots)


def _reference_backward(
    grads: tuple[Tensor | None, ...], arguments: tuple[Any, ...], slots: Tensor, per_head: bool, decay: float
) -> tuple[Tensor | None, ...]:
    return pull_back(reference.lrua_scan, (*arguments, slots.shape[-1], per_head, decay, slots), grads)[:7]


class _Gradient(Gradient):
    """The backward operation of the default overload. Two functions come first, so its tensors count from 2."""

    batch_at_dim1 = ((2, 9, 10, 11, 12, 13), (3, 4, 5, 6))


class _RecomputeGradient(Gradient):
    """The backward operation of the overloads "recompute" and "cosines"."""

    batch_at_dim1 = ((2, 8, 9, 10, 11, 12, 13, 14), (3, 4, 5, 6))


_DIFFERENTIATED_AGAIN = {
    "default": (_reference_save_backward, _Gradient),
    "recompute": (_reference_recompute_backward, _RecomputeGradient),
    "cosines": (_reference_recompute_backward, _RecomputeGradient),
}


class LRUAScanFunction(MemoryFunction):
    """The arguments of ``lrua_scan`` and the overload -> reads and the last state, and what that overload saves."""

    batch_at_dim1 = ((3, 4, 5, 6), (0, 4, 5, 6))

    @staticmethod
    @takes(lrua_scan, "overload")
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *arguments, overload = args
        return below_autograd(lrua_scan[overload], *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        memory, read_weights, usage, *interface = inputs[:7]
        *ctx.options, _, ctx.overload = inputs[7:]
        ctx.has_strengths = interface[3] is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[4:])
        state = (memory, read_weights, usage) if ctx.overload == "default" else (memory, read_weights)
        ctx.save_for_backward(*state, *interface, *output[4:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        reference_backward, function = _DIFFERENTIATED_AGAIN[ctx.overload]
        args = (*grads[:4], *ctx.saved_tensors, *ctx.options)
        out = call_backward(lrua_scan_backward[ctx.overload], reference_backward, *args, function=function)
        return (*out[:6], out[6] if ctx.has_strengths else None, None, None, None, None, None)


give_gradient(lrua_scan, lambda *args: LRUAScanFunction.apply_fast(*args[:-2], True, args[-1]))
