"""LRUA, Least Recently Used Access (Santoro et al. 2016, section 3), in plain PyTorch.

B episodes, N memory slots, W width of a slot, R read heads. Every function takes any device and float dtype, is
differentiable by autograd any number of times, and writes to none of its inputs.

docs/equations.md defines the equations by name. Equal slots get bit-equal weights and usage wherever they lie, because
ties of usage are broken by index; so sums over R are written out, as those over W are in
:mod:`mannkern.memories.content`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.content import cosine_weights, read


def least_used_slots(usage: Tensor, n: int) -> Tensor:
    """Least used: indices (B, n) of the n smallest of usage (B, N), ascending; ties: lower index; NaN: the largest."""
    return torch.sort(usage.detach(), dim=-1, stable=True).indices[:, :n]


def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """Least used as a mask (B, N) in usage's dtype: 1 at the n least used slots of usage (B, N), else 0."""
    return torch.zeros_like(usage).scatter(-1, least_used_slots(usage, n), 1.0)


def additive_write(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None = None) -> Tensor:
    """Write: M'(i) = M(i) + sum_h w_w[h](i) a[h], (B, N, W), after slot ``reset`` (B,) is set to zero."""
    if reset is not None:
        memory = memory.scatter(1, reset.view(-1, 1, 1).expand(-1, 1, memory.shape[-1]), 0.0)
    for w_w, a in zip(write_weights.unbind(1), add.unbind(1), strict=True):
        memory = memory + w_w.unsqueeze(-1) * a.unsqueeze(-2)
    return memory


def weighted_read(memory: Tensor, weights: Tensor) -> Tensor:
    """Read: vectors (B, R, W), r[h] = sum_i w[h](i) M(i), of memory (B, N, W) and weights (B, R, N)."""
    return read(weights, memory)


def cosine_read(memory: Tensor, key: Tensor, strength: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Read: vectors (B, R, W) and content weights (B, R, N) of keys (B, R, W) with strengths (B, R), 1 if None."""
    weights = cosine_weights(memory, key, strength)
    return read(weights, memory), weights


def usage_update(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float = 0.99) -> Tensor:
    """Usage: u' = gamma u + sum_h w_r[h] + sum_h w_w[h], (B, N)."""
    return decay * usage + _sum_heads(read_weights) + _sum_heads(write_weights)


def write_weights(read_weights: Tensor, gate: Tensor, least_used: Tensor, per_head: bool) -> Tensor:
    """Write weights (B, R, N) of the read weights before, the gate logits (B, R) and the least used slots (B, n)."""
    if per_head:
        heads = torch.arange(gate.shape[1], device=gate.device) % least_used.shape[1]
        w_lu = torch.zeros_like(read_weights).scatter(-1, least_used[:, heads].unsqueeze(-1), 1.0)
    else:
        w_lu = torch.zeros_like(read_weights[:, 0]).scatter(-1, least_used, 1.0).unsqueeze(1)
    s = torch.sigmoid(gate).unsqueeze(-1)
    return s * read_weights + (1 - s) * w_lu


def lrua_step(
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
    least_used: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step: memory (B, N, W), read (B, R, W), read weights (B, R, N), usage (B, N), write weights (B, R, N).

    least_used: the least used slots (B, num_least_used) if they are known already; by default those of usage.
    """
    if least_used is None:
        least_used = least_used_slots(usage, num_least_used)
    written_at = write_weights(read_weights, gate, least_used, per_head)
    memory = additive_write(memory, written_at, add, least_used[:, 0])
    read_vectors, read_weights = cosine_read(memory, key, strength)
    usage = usage_update(usage, read_weights, written_at, decay)
    return memory, read_vectors, read_weights, usage, written_at


def lrua_scan(
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
    least_used: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """T steps on keys and adds (T, B, R, W), gates and strengths (T, B, R): reads (T, B, R, W), then the state.

    least_used: the least used slots (T, B, num_least_used) if they are known already, as for :func:`lrua_step`.
    """
    reads = []
    for t, (key, add, gate) in enumerate(zip(keys, adds, gates, strict=True)):
        strength = None if strengths is None else strengths[t]
        slots = None if least_used is None else least_used[t]
        memory, read_vectors, read_weights, usage, _ = lrua_step(
            memory, read_weights, usage, key, add, gate, strength, num_least_used, per_head, decay, slots
        )
        reads.append(read_vectors)
    stacked = torch.stack(reads) if reads else memory.new_empty(keys.shape)
    return stacked, memory, read_weights, usage


def _sum_heads(weights: Tensor) -> Tensor:
    """Sum of (B, R, N) over R in the order of the heads, which is the same for every slot."""
    total, *others = weights.unbind(1)
    for w in others:
        total = total + w
    return total
