"""LRUA, Least Recently Used Access (Santoro et al. 2016, section 3), in plain PyTorch.

B episodes, N memory slots, W width of a slot, R read heads. Every function takes any device and float dtype, is
differentiable by autograd any number of times, and writes to none of its inputs.

Equal slots get bit-equal weights and usage wherever they lie, because ties of usage are broken by index. A matrix
product does not promise that (its edge tiles add up in another order), so the sums over W and over R are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8  # of torch.nn.functional.cosine_similarity


def least_used_slots(usage: Tensor, n: int) -> Tensor:
    """Indices (B, n) of the n slots of smallest usage (B, N), ascending; ties: lower index first; NaN: the largest."""
    return torch.sort(usage.detach(), dim=-1, stable=True).indices[:, :n]


def least_used_mask(usage: Tensor, n: int) -> Tensor:
    """Mask (B, N) in usage's dtype: 1 at the n least used slots of usage (B, N), else 0. Equation 6 with exact ties."""
    return torch.zeros_like(usage).scatter(-1, least_used_slots(usage, n), 1.0)


def additive_write(memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None = None) -> Tensor:
    """M'(i) = M(i) + sum_h w_w[h](i) a[h], with slot ``reset`` (B,) zeroed first. Equation 7. Returns (B, N, W)."""
    if reset is not None:
        memory = memory.scatter(1, reset.view(-1, 1, 1).expand(-1, 1, memory.shape[-1]), 0.0)
    for w_w, a in zip(write_weights.unbind(1), add.unbind(1), strict=True):
        memory = memory + w_w.unsqueeze(-1) * a.unsqueeze(-2)
    return memory


def cosine_read(memory: Tensor, key: Tensor, strength: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Read (B, R, W) and weights (B, R, N) = softmax_i(b cos(k, M(i))). Equations 2 to 4, with a strength b (B, R)."""
    weights = cosine_weights(memory, key, strength)
    return read(weights, memory), weights


def read(weights: Tensor, memory: Tensor) -> Tensor:
    """r[h] = sum_i w[h](i) M(i), (B, R, W), in the memory's precision under autocast too. Equation 4."""
    device = memory.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return weights @ memory
    with torch.autocast(device, enabled=False):
        return weights @ memory


def cosine_weights(memory: Tensor, key: Tensor, strength: Tensor | None = None) -> Tensor:
    """Weights (B, R, N) = softmax_i(b cos(k, M(i))). Equations 2 and 3."""
    key = key / _norm(key).unsqueeze(-1)  # before the product, which could overflow
    dot = torch.stack([(memory * k.unsqueeze(-2)).sum(-1) for k in key.unbind(1)], 1)
    cosine = dot / _norm(memory).unsqueeze(-2)
    return torch.softmax(cosine if strength is None else strength.unsqueeze(-1) * cosine, -1)


def usage_update(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float = 0.99) -> Tensor:
    """u' = gamma u + sum_h w_r[h] + sum_h w_w[h]. Equation 5. Returns (B, N)."""
    return decay * usage + _sum_heads(read_weights) + _sum_heads(write_weights)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step: memory (B, N, W), read (B, R, W), read weights (B, R, N), usage (B, N), write weights (B, R, N)."""
    least_used = least_used_slots(usage, num_least_used)
    if per_head:
        heads = torch.arange(key.shape[1], device=usage.device) % num_least_used
        w_lu = torch.zeros_like(read_weights).scatter(-1, least_used[:, heads].unsqueeze(-1), 1.0)
    else:
        w_lu = torch.zeros_like(usage).scatter(-1, least_used, 1.0).unsqueeze(1)
    open_gate = torch.sigmoid(gate).unsqueeze(-1)
    write_weights = open_gate * read_weights + (1 - open_gate) * w_lu
    memory = additive_write(memory, write_weights, add, least_used[:, 0])
    found, read_weights = cosine_read(memory, key, strength)
    usage = usage_update(usage, read_weights, write_weights, decay)
    return memory, found, read_weights, usage, write_weights


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """T steps on keys and adds (T, B, R, W), gates and strengths (T, B, R): reads (T, B, R, W), then the state."""
    reads = []
    for t, (key, add, gate) in enumerate(zip(keys, adds, gates, strict=True)):
        strength = None if strengths is None else strengths[t]
        memory, found, read_weights, usage, _ = lrua_step(
            memory, read_weights, usage, key, add, gate, strength, num_least_used, per_head, decay
        )
        reads.append(found)
    stacked = torch.stack(reads) if reads else memory.new_empty(keys.shape)
    return stacked, memory, read_weights, usage


def _norm(x: Tensor) -> Tensor:
    """max(|x|, eps) over the last dimension, with no gradient (and no NaN) where the norm is under eps."""
    scale = x.detach().abs().amax(-1).clamp_min(EPS)  # the squares neither overflow nor vanish
    square = (x / scale.unsqueeze(-1)).square().sum(-1)
    above = square.detach().sqrt() * scale > EPS
    return torch.where(above, torch.where(above, square, 1.0).sqrt() * scale, EPS)


def _sum_heads(weights: Tensor) -> Tensor:
    """Sum of (B, R, N) over R, in the order of the heads."""
    total, *others = weights.unbind(1)
    for w in others:
        total = total + w
    return total
