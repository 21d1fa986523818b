"""The Triton backend's operations as the dispatcher knows them: schema, shapes of the results, and launcher of each.

Triton itself is imported when the first of them runs. They are not differentiable by themselves;
:mod:`mannkern.autograd` makes them so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mannkern.triton.tiling import checkpoint_every, compute_dtype

_library = torch.library.Library("mannkern_triton", "DEF")
_OPTIONS = "int num_least_used, bool per_head, float decay"


def _operation(launchers: str, schema: str) -> Callable[[Callable[..., Any]], None]:
    """Define the operation; its launcher is the function of that name in ``launchers``, its fake what is decorated."""
    name = schema[: schema.index("(")]

    def launch(*args: Any) -> Any:
        return getattr(importlib.import_module(f"mannkern.triton.{launchers}"), name)(*args)

    def register(fake: Callable[..., Any]) -> None:
        _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        _library.impl(name, launch, "CompositeExplicitAutograd")
        torch.library.register_fake(f"mannkern_triton::{name}", fake, lib=_library)

    return register


def _like(x: Tensor | None, empty: Tensor) -> Tensor:
    return empty if x is None else x.new_empty(x.shape)


@_operation("launch.least_used", "least_used_mask(Tensor usage, int n) -> Tensor")
def _(usage: Tensor, n: int) -> Tensor:
    return usage.new_empty(usage.shape)


@_operation(
    "launch.write_usage", "additive_write(Tensor memory, Tensor write_weights, Tensor add, Tensor? reset) -> Tensor"
)
def _(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> Tensor:
    return memory.new_empty(memory.shape, dtype=compute_dtype(memory))


@_operation(
    "launch.write_usage",
    "additive_write_backward(Tensor grad, Tensor write_weights, Tensor add, Tensor? reset) -> (Tensor, Tensor, Tensor)",
)
def _(grad: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (grad, write_weights, add))


@_operation(
    "launch.write_usage", "usage_update(Tensor usage, Tensor read_weights, Tensor write_weights, float decay) -> Tensor"
)
def _(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    return usage.new_empty(usage.shape, dtype=compute_dtype(usage))


@_operation(
    "launch.write_usage", "usage_update_backward(Tensor grad, int num_heads, float decay) -> (Tensor, Tensor, Tensor)"
)
def _(grad: Tensor, num_heads: int, decay: float) -> tuple[Tensor, Tensor, Tensor]:
    weights = (grad.shape[0], num_heads, grad.shape[1])
    return grad.new_empty(grad.shape), grad.new_empty(weights), grad.new_empty(weights)


@_operation("launch.step", "cosine_read(Tensor memory, Tensor key, Tensor? strength) -> (Tensor, Tensor)")
def _(memory: Tensor, key: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor]:
    weights = (memory.shape[0], key.shape[1], memory.shape[1])
    return memory.new_empty(key.shape, dtype=compute_dtype(memory)), memory.new_empty(
        weights, dtype=compute_dtype(memory)
    )


@_operation(
    "launch.step",
    "cosine_read_backward(Tensor? grad_read, Tensor? grad_read_weights, Tensor memory, Tensor key, Tensor? strength, "
    "Tensor read_weights) -> (Tensor, Tensor, Tensor)",
)
def _(
    grad_read: Tensor | None,
    grad_read_weights: Tensor | None,
    memory: Tensor,
    key: Tensor,
    strength: Tensor | None,
    read_weights: Tensor,
) -> tuple[Tensor, ...]:
    return _like(memory, key), _like(key, key), _like(strength, key.new_empty(key.shape[0], 0))


@_operation(
    "launch.step",
    "lrua_step(Tensor memory, Tensor read_weights, Tensor usage, Tensor key, Tensor add, Tensor gate, "
    f"Tensor? strength, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
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
    sizes = (memory.shape, key.shape, read_weights.shape, usage.shape, read_weights.shape)
    results = (memory.new_empty(size, dtype=compute_dtype(memory)) for size in sizes)
    return *results, memory.new_empty(usage.shape, dtype=torch.int8)


@_operation(
    "launch.step",
    "lrua_step_backward(Tensor? grad_memory, Tensor? grad_read, Tensor? grad_read_weights, Tensor? grad_usage, "
    "Tensor? grad_write_weights, Tensor previous_read_weights, Tensor key, Tensor add, Tensor gate, Tensor? strength, "
    f"Tensor memory, Tensor read_weights, Tensor marks, {_OPTIONS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
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
    marks: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    state = _like(memory, key), _like(previous_read_weights, key), memory.new_empty(marks.shape)
    asked = _like(key, key), _like(add, key), _like(gate, key)
    return *state, *asked, _like(strength, key.new_empty(key.shape[0], 0))


@_operation(
    "launch.scan",
    "lrua_scan(Tensor memory, Tensor read_weights, Tensor usage, Tensor keys, Tensor adds, Tensor gates, "
    f"Tensor? strengths, {_OPTIONS}, bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
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
    T = keys.shape[0]
    kept = (T, -(-T // checkpoint_every(T)) - 1) if keep else (0, 0)
    sizes = (keys.shape, memory.shape, read_weights.shape, usage.shape)
    reads, *state = (memory.new_empty(size, dtype=compute_dtype(memory)) for size in sizes)
    marks = memory.new_empty((kept[0], *usage.shape), dtype=torch.int8)
    return reads, *state, marks, *(x.new_empty((kept[1], *x.shape)) for x in state[:2])


@_operation(
    "launch.scan",
    "lrua_scan_backward(Tensor? grad_reads, Tensor? grad_memory, Tensor? grad_read_weights, Tensor? grad_usage, "
    "Tensor memory, Tensor read_weights, Tensor keys, Tensor adds, Tensor gates, Tensor? strengths, Tensor marks, "
    f"Tensor copies, Tensor weights_copies, {_OPTIONS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _(
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
    copies: Tensor,
    weights_copies: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, ...]:
    usage = memory.new_empty(marks.shape[1:], dtype=compute_dtype(memory))
    state = memory.new_empty(memory.shape, dtype=compute_dtype(memory)), _like(read_weights, keys), usage
    asked = _like(keys, keys), _like(adds, keys), _like(gates, keys)
    return *state, *asked, _like(strengths, keys.new_empty(*keys.shape[:2], 0))
