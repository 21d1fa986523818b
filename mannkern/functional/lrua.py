"""The operations of LRUA (Santoro et al. 2016, section 3): R read heads, n least used slots, T steps of a scan."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mannkern import checks
from mannkern.autograd import lrua as autograd
from mannkern.backends import choose
from mannkern.reference import lrua as reference


class LRUAStep(NamedTuple):
    """memory (B, N, W), read (B, R, W), read_weights (B, R, N), usage (B, N), write_weights (B, R, N)."""

    memory: Tensor
    read: Tensor
    read_weights: Tensor
    usage: Tensor
    write_weights: Tensor


class LRUAScan(NamedTuple):
    """reads (T, B, R, W), and the state after the last step: memory (B, N, W), read_weights (B, R, N), usage (B, N)."""

    reads: Tensor
    memory: Tensor
    read_weights: Tensor
    usage: Tensor


def least_used_mask(usage: Tensor, n: int, *, backend: str | None = None) -> Tensor:
    """Mask (B, N), in usage's dtype, of exactly n ones at the slots of smallest usage (B, N). Equation 6.

    Ties go to the lower index; NaN counts as the largest. The choice is a constant: no gradient flows through it.
    """
    _, N = checks.leading("usage", usage, "BN")
    usage = checks.widen(usage.detach())
    checks.number_of_slots("n", n, N)
    chosen = choose(backend, usage.device, N)
    if chosen == "reference":
        return reference.least_used_mask(usage, n)
    if chosen == "triton":
        return torch.ops.mannkern_triton.least_used_mask(usage, n)
    return torch.zeros_like(usage).scatter_(-1, torch.ops.mannkern.least_used_slots(usage, n), 1.0)


def additive_write(
    memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """M'(i) = M(i) + sum_h w_w[h](i) a[h], after slot ``reset`` is set to zero. Equation 7.

    memory (B, N, W), write_weights (B, R, N), add (B, R, W), reset (B,) int64 or None. Returns memory (B, N, W).
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    R = checks.leading("write_weights", write_weights, "BRN")[1]
    chosen = choose(backend, memory.device, N, W, R)
    half = chosen == "triton"
    memory = memory if half else checks.widen(memory)
    write_weights = checks.like(memory, "write_weights", write_weights, "BRN", (B, R, N), half)
    add = checks.like(memory, "add", add, "BRW", (B, R, W), half)
    reset = checks.slots(memory, "reset", reset, B, N)
    if chosen == "reference":
        return reference.additive_write(memory, write_weights, add, reset)
    return autograd.AdditiveWrite.call(memory, write_weights, add, reset, chosen)


def cosine_read(
    memory: Tensor, key: Tensor, strength: Tensor | None = None, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Read by content: w_r[h] = softmax_i(b[h] cos(k[h], M(i))), r[h] = sum_i w_r[h](i) M(i). Equations 2 to 4.

    memory (B, N, W), key (B, R, W), strength b (B, R) >= 0, None for 1 as in the paper. A norm under 1e-8 counts as
    1e-8 and passes no gradient. Returns read (B, R, W) and read_weights (B, R, N).
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    R = checks.leading("key", key, "BRW")[1]
    chosen = choose(backend, memory.device, N, W, R)
    half = chosen == "triton"
    memory = memory if half else checks.widen(memory)
    key = checks.like(memory, "key", key, "BRW", (B, R, W), half)
    strength = checks.strength(memory, "strength", strength, "BR", (B, R), half)
    if chosen == "reference":
        return reference.cosine_read(memory, key, strength)
    read, read_weights, *_ = autograd.CosineRead.call(memory, key, strength, chosen)
    return read, read_weights


def usage_update(
    usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float = 0.99, *, backend: str | None = None
) -> Tensor:
    """u' = gamma u + sum_h w_r[h] + sum_h w_w[h]. Equation 5.

    usage (B, N), read_weights and write_weights (B, R, N), decay gamma in [0, 1]: 0.99 is the paper's, the
    replications use 0.95. Returns usage (B, N).
    """
    B, N = checks.leading("usage", usage, "BN")
    R = checks.leading("read_weights", read_weights, "BRN")[1]
    chosen = choose(backend, usage.device, N, R=R)
    half = chosen == "triton"
    usage, decay = usage if half else checks.widen(usage), checks.decay(decay)
    read_weights = checks.like(usage, "read_weights", read_weights, "BRN", (B, R, N), half)
    write_weights = checks.like(usage, "write_weights", write_weights, "BRN", (B, R, N), half)
    if chosen == "reference":
        return reference.usage_update(usage, read_weights, write_weights, decay)
    return autograd.UsageUpdate.call(usage, read_weights, write_weights, decay, chosen)


def lrua_step(
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Tensor | None = None,
    *,
    num_least_used: int | None = None,
    least_used: str = "shared",
    decay: float = 0.99,
    backend: str | None = None,
) -> LRUAStep:
    """One memory step of MANN: least used slots, write, read of what was written, usage. Equations 2 to 8.

    State: memory (B, N, W), read_weights (B, R, N), usage (B, N). Input: key (B, R, W), add (B, R, W) (the paper writes
    the key: pass it twice), gate logits (B, R) between the last read location (+) and the least used (-), strength
    (B, R) >= 0 or None for 1.

    num_least_used: n, by default min(R, N). least_used: "shared", the paper's, marks n slots for every head;
    "per_head" gives head h the slot of rank h mod n, as the most-cited replication does. decay: gamma in [0, 1].
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    R = checks.leading("key", key, "BRW")[1]
    chosen = choose(backend, memory.device, N, W, R)
    half = chosen == "triton"
    memory = memory if half else checks.widen(memory)
    read_weights = checks.like(memory, "read_weights", read_weights, "BRN", (B, R, N), half)
    usage = checks.like(memory, "usage", usage, "BN", (B, N), half)
    key = checks.like(memory, "key", key, "BRW", (B, R, W), half)
    add = add.view_as(add) if add is key else add  # torch.compile wants two tensors
    add = checks.like(memory, "add", add, "BRW", (B, R, W), half)
    gate = checks.like(memory, "gate", gate, "BR", (B, R), half)
    strength = checks.strength(memory, "strength", strength, "BR", (B, R), half)
    options = _options(R, N, num_least_used, least_used, decay)
    arguments = (memory, read_weights, usage, key, add, gate, strength, *options)
    if chosen == "reference":
        return LRUAStep(*reference.lrua_step(*arguments))
    return LRUAStep(*autograd.LRUAStep.call(*arguments, chosen)[:5])


def _options(R: int, N: int, num_least_used: int | None, least_used: str, decay: float) -> tuple[int, bool, float]:
    n = min(R, N) if num_least_used is None else num_least_used
    return checks.number_of_slots("num_least_used", n, N), checks.per_head(least_used), checks.decay(decay)


def lrua_scan(
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    keys: Tensor,
    adds: Tensor,
    gates: Tensor,
    strengths: Tensor | None = None,
    *,
    num_least_used: int | None = None,
    least_used: str = "shared",
    decay: float = 0.99,
    backend: str | None = None,
) -> LRUAScan:
    """T calls of :func:`lrua_step` on given keys and adds (T, B, R, W), gates and strengths (T, B, R).

    An episode whose controller does not read its memory back. T = 0 returns the state as it came. State and options are
    those of :func:`lrua_step`.
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    T, _, R, _ = checks.leading("keys", keys, "TBRW")
    chosen = choose(backend, memory.device, N, W, R)
    half = chosen == "triton"
    memory = memory if half and T else checks.widen(memory)
    read_weights = checks.like(memory, "read_weights", read_weights, "BRN", (B, R, N), half and T > 0)
    usage = checks.like(memory, "usage", usage, "BN", (B, N), half and T > 0)
    keys = checks.like(memory, "keys", keys, "TBRW", (T, B, R, W), half)
    adds = adds.view_as(adds) if adds is keys else adds
    adds = checks.like(memory, "adds", adds, "TBRW", (T, B, R, W), half)
    gates = checks.like(memory, "gates", gates, "TBR", (T, B, R), half)
    strengths = checks.strength(memory, "strengths", strengths, "TBR", (T, B, R), half)
    options = _options(R, N, num_least_used, least_used, decay)
    arguments = (memory, read_weights, usage, keys, adds, gates, strengths, *options)
    if chosen == "reference" or T == 0:
        return LRUAScan(*reference.lrua_scan(*arguments))
    return LRUAScan(*autograd.LRUAScan.call(*arguments, torch.is_grad_enabled(), chosen)[:4])
