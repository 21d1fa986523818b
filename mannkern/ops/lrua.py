"""The operations of LRUA: schema and shapes of each, forward and backward."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mannkern import native
from mannkern.ops.library import define, library

define("least_used_slots(Tensor usage, int n) -> Tensor")
define("additive_write(Tensor memory, Tensor write_weights, Tensor add, Tensor? reset) -> Tensor")
define(
    "additive_write_backward(Tensor grad, Tensor write_weights, Tensor add, Tensor? reset) -> (Tensor, Tensor, Tensor)"
)
define("cosine_read(Tensor memory, Tensor key, Tensor? strength) -> (Tensor, Tensor, Tensor, Tensor)")
define(
    "cosine_read_backward(Tensor? grad_read, Tensor? grad_read_weights, Tensor memory, Tensor key, Tensor? strength, "
    "Tensor read_weights, Tensor cosine, Tensor norm) -> (Tensor, Tensor, Tensor)"
)
define("usage_update(Tensor usage, Tensor read_weights, Tensor write_weights, float decay) -> Tensor")
define("usage_update_backward(Tensor grad, int num_heads, float decay) -> (Tensor, Tensor, Tensor)")
define(
    "lrua_step(Tensor memory, Tensor read_weights, Tensor usage, Tensor key, Tensor add, Tensor gate, "
    "Tensor? strength, int num_least_used, bool per_head, float decay) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define(
    "lrua_step_backward(Tensor? grad_memory, Tensor? grad_read, Tensor? grad_read_weights, Tensor? grad_usage, "
    "Tensor? grad_write_weights, Tensor previous_read_weights, Tensor key, Tensor add, Tensor gate, Tensor? strength, "
    "Tensor memory, Tensor read_weights, Tensor write_weights, Tensor cosine, Tensor norm, Tensor least_used, "
    "bool per_head, float decay) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define(
    "lrua_scan(Tensor memory, Tensor read_weights, Tensor usage, Tensor keys, Tensor adds, Tensor gates, "
    "Tensor? strengths, int num_least_used, bool per_head, float decay, bool keep) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define(
    "lrua_scan_backward(Tensor? grad_reads, Tensor? grad_memory, Tensor? grad_read_weights, Tensor? grad_usage, "
    "Tensor memory, Tensor read_weights, Tensor usage, Tensor keys, Tensor adds, Tensor gates, Tensor? strengths, "
    "Tensor copies, int num_least_used, bool per_head, float decay) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.register_fake("mannkern::least_used_slots", lib=library)
def _(usage: Tensor, n: int) -> Tensor:
    return usage.new_empty((usage.shape[0], n), dtype=torch.int64)


@torch.library.register_fake("mannkern::additive_write", lib=library)
def _(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> Tensor:
    return memory.new_empty(memory.shape)


@torch.library.register_fake("mannkern::additive_write_backward", lib=library)
def _(grad: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return grad.new_empty(grad.shape), grad.new_empty(write_weights.shape), grad.new_empty(add.shape)


@torch.library.register_fake("mannkern::cosine_read", lib=library)
def _(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, N, _ = memory.shape
    weights = (B, key.shape[1], N)
    return memory.new_empty(key.shape), memory.new_empty(weights), memory.new_empty(weights), memory.new_empty((B, N))


@torch.library.register_fake("mannkern::cosine_read_backward", lib=library)
def _(
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    memory: Tensor,
    key: Tensor,
    strength: Tensor | None,
    read_weights: Tensor,
    cosine: Tensor,
    norm: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return memory.new_empty(memory.shape), memory.new_empty(key.shape), _grad_strength(key, strength)


@torch.library.register_fake("mannkern::usage_update", lib=library)
def _(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    return usage.new_empty(usage.shape)


@torch.library.register_fake("mannkern::usage_update_backward", lib=library)
def _(grad: Tensor, num_heads: int, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    weights = (grad.shape[0], num_heads, grad.shape[1])
    return grad.new_empty(grad.shape), grad.new_empty(weights), grad.new_empty(weights)


@torch.library.register_fake("mannkern::lrua_step", lib=library)
def _(
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
    B, N, _ = memory.shape
    weights = (B, key.shape[1], N)
    return (
        memory.new_empty(memory.shape),
        memory.new_empty(key.shape),
        memory.new_empty(weights),
        memory.new_empty((B, N)),
        memory.new_empty(weights),
        memory.new_empty(weights),
        memory.new_empty((B, N)),
        memory.new_empty((B, num_least_used), dtype=torch.int64),
    )


@torch.library.register_fake("mannkern::lrua_step_backward", lib=library)
def _(
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
) -> tuple[Tensor, ...]:
    return (
        memory.new_empty(memory.shape),
        memory.new_empty(read_weights.shape),
        memory.new_empty(norm.shape),
        memory.new_empty(key.shape),
        memory.new_empty(add.shape),
        memory.new_empty(gate.shape),
        _grad_strength(key, strength),
    )


@torch.library.register_fake("mannkern::lrua_scan", lib=library)
def _(
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
    T, B, R, W = keys.shape
    N = memory.shape[1]
    block = native.block(memory.dtype)
    copies = (T - 1) // _span(T) if keep else 0
    return (
        memory.new_empty(keys.shape),
        memory.new_empty(memory.shape),
        memory.new_empty(read_weights.shape),
        memory.new_empty(usage.shape),
        memory.new_empty((copies, B, (N + block - 1) // block * block * (W + R + 1))),
    )


@torch.library.register_fake("mannkern::lrua_scan_backward", lib=library)
def _(
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
    copies: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    given = (memory, read_weights, usage, keys, adds, gates)
    T, B, R = gates.shape
    return *(memory.new_empty(x.shape) for x in given), memory.new_empty((T, B, 0 if strengths is None else R))


def _span(T: int) -> int:
    """Steps between two copies of a scan's state: as csrc/cpu/scan.cpp has it."""
    return max(math.ceil(math.sqrt(min(T, 64))), (T + 7) // 8)


def _grad_strength(key: Tensor, strength: Tensor | None) -> Tensor:
    return key.new_empty((key.shape[0], 0 if strength is None else key.shape[1]))
