"""The public operations of LRUA: they check arguments and choose the backend. See :mod:`mannkern.functional`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.backends import choose
from mannkern.backends.onnx import for_onnx
from mannkern.memories.checks import (
    check_decay,
    check_first,
    check_least_used,
    check_number_of_slots,
    check_slots,
    check_strength,
    check_tensor,
    distinct,
    widen,
)
from mannkern.memories.lrua import reference
from mannkern.memories.lrua.ops.additive_write import AdditiveWriteFunction
from mannkern.memories.lrua.ops.cosine_read import CosineReadFunction
from mannkern.memories.lrua.ops.least_used_mask import least_used_mask as least_used_mask_operation
from mannkern.memories.lrua.ops.scan import LRUAScanFunction
from mannkern.memories.lrua.ops.step import LRUAStepFunction
from mannkern.memories.lrua.ops.usage_update import UsageUpdateFunction


class LRUAStep(NamedTuple):
    """The results of a step.

    memory (B, N, W), read (B, R, W), read_weights (B, R, N), usage (B, N), write_weights (B, R, N)
    """

    memory: Tensor
    read: Tensor
    read_weights: Tensor
    usage: Tensor
    write_weights: Tensor


class LRUAScan(NamedTuple):
    """The results of a scan.

    reads (T, B, R, W), and after the last step memory (B, N, W), read_weights (B, R, N) and usage (B, N)
    """

    reads: Tensor
    memory: Tensor
    read_weights: Tensor
    usage: Tensor


def least_used_mask(usage: Tensor, n: int, *, backend: str | None = None) -> Tensor:
    """Least used: a mask (B, N), in usage's dtype, of exactly n ones at the slots of smallest usage (B, N).

    Ties go to the lower index; NaN counts as the largest. The choice is a constant: no gradient flows through it.

    >>> mannkern.functional.least_used_mask(torch.tensor([[0.3, 0.1, 0.2, 0.1]]), n=2)
    tensor([[0., 1., 0., 1.]])
    """
    _, N = check_first("usage", usage, "BN")
    usage = widen(usage.detach())
    check_number_of_slots("n", n, N)
    chosen = choose("lrua", backend, usage.device, N)
    if chosen.overload is None:
        return reference.least_used_mask(usage, n)
    return least_used_mask_operation[chosen.overload](usage, n)


def additive_write(
    memory: Tensor, write_weights: Tensor, add: Tensor, reset: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Write: M'(i) = M(i) + sum_h w_w[h](i) a[h], after slot ``reset`` is set to zero.

    memory (B, N, W), write_weights (B, R, N), add (B, R, W), reset (B,) int64 or None. Returns memory (B, N, W).

    >>> memory, weights, add = torch.ones(1, 2, 3), torch.tensor([[[1.0, 0.5]]]), torch.full((1, 1, 3), 2.0)
    >>> mannkern.functional.additive_write(memory, weights, add)
    tensor([[[3., 3., 3.],
             [2., 2., 2.]]])
    """
    B, N, W = check_first("memory", memory, "BNW")
    R = check_first("write_weights", write_weights, "BRN")[1]
    chosen = choose("lrua", backend, memory.device, N, W, R)
    takes_half = chosen.takes_half
    memory = memory if takes_half else widen(memory)
    write_weights = check_tensor(memory, "write_weights", write_weights, "BRN", (B, R, N), takes_half)
    add = check_tensor(memory, "add", add, "BRW", (B, R, W), takes_half)
    reset = check_slots(memory, "reset", reset, B, N)
    if chosen.overload is None:
        return reference.additive_write(memory, write_weights, add, reset)
    return AdditiveWriteFunction.apply_fast(memory, write_weights, add, reset, chosen.overload)


def cosine_read(
    memory: Tensor, key: Tensor, strength: Tensor | None = None, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Read by content: w_r[h] = softmax_i(b[h] cos(k[h], M(i))), r[h] = sum_i w_r[h](i) M(i).

    memory (B, N, W), key (B, R, W), strength b (B, R) >= 0, None for 1 as in the paper. A norm under 1e-8 counts as
    1e-8 and passes no gradient. Returns read (B, R, W) and read_weights (B, R, N).

    >>> memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> read, weights = mannkern.functional.cosine_read(memory, torch.tensor([[[5.0, 0.0]]]))
    >>> weights  # of cosines 1 and 0
    tensor([[[0.7311, 0.2689]]])
    """
    B, N, W = check_first("memory", memory, "BNW")
    R = check_first("key", key, "BRW")[1]
    chosen = choose("lrua", backend, memory.device, N, W, R)
    takes_half = chosen.takes_half
    memory = memory if takes_half else widen(memory)
    key = check_tensor(memory, "key", key, "BRW", (B, R, W), takes_half)
    strength = check_strength(memory, "strength", strength, "BR", (B, R), takes_half)
    if chosen.overload is None:
        return reference.cosine_read(memory, key, strength)
    read, read_weights, *_ = CosineReadFunction.apply_fast(memory, key, strength, chosen.overload)
    return read, read_weights


def weighted_read(memory: Tensor, weights: Tensor) -> Tensor:
    """Read by weights that are given: r[h] = sum_i w[h](i) M(i).

    It serves memories with an addressing of their own. memory (B, N, W), weights (B, R, N) of any sign. It takes no
    backend, because it is one matrix product of PyTorch. Returns read (B, R, W).

    >>> memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> mannkern.functional.weighted_read(memory, torch.tensor([[[0.25, 0.75]]]))
    tensor([[[0.2500, 0.7500]]])
    """
    B, N, _ = check_first("memory", memory, "BNW")
    R = check_first("weights", weights, "BRN")[1]
    memory = widen(memory)
    weights = check_tensor(memory, "weights", weights, "BRN", (B, R, N))
    return reference.weighted_read(memory, weights)


def usage_update(
    usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float = 0.99, *, backend: str | None = None
) -> Tensor:
    """Usage: u' = gamma u + sum_h w_r[h] + sum_h w_w[h].

    usage (B, N), read_weights and write_weights (B, R, N), decay gamma in [0, 1]: 0.99 is the paper's, the
    replications use 0.95. Returns usage (B, N).

    >>> read, write = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.5]]])
    >>> mannkern.functional.usage_update(torch.tensor([[1.0, 1.0]]), read, write, decay=0.5)
    tensor([[1.5000, 1.0000]])
    """
    B, N = check_first("usage", usage, "BN")
    R = check_first("read_weights", read_weights, "BRN")[1]
    chosen = choose("lrua", backend, usage.device, N, R=R)
    takes_half = chosen.takes_half
    usage, decay = usage if takes_half else widen(usage), check_decay(decay)
    read_weights = check_tensor(usage, "read_weights", read_weights, "BRN", (B, R, N), takes_half)
    write_weights = check_tensor(usage, "write_weights", write_weights, "BRN", (B, R, N), takes_half)
    if chosen.overload is None:
        return reference.usage_update(usage, read_weights, write_weights, decay)
    return UsageUpdateFunction.apply_fast(usage, read_weights, write_weights, decay, chosen.overload)


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
    """One memory step of MANN: least used slots, write, read of the memory just written, usage.

    State: memory (B, N, W), read_weights (B, R, N), usage (B, N). Input: key (B, R, W), add (B, R, W) (the paper writes
    the key: pass it twice), gate logits (B, R) between the last read location (+) and the least used (-), strength
    (B, R) >= 0 or None for 1. Returns memory, read (B, R, W), read weights, usage and write weights (B, R, N).

    num_least_used: n, by default min(R, N). least_used: "shared", the paper's, marks n slots for every head;
    "per_head" gives head h the slot of rank h mod n, as the most-cited replication does. decay: gamma in [0, 1].

    >>> B, N, W, R = 16, 128, 40, 4
    >>> state = torch.zeros(B, N, W), torch.full((B, R, N), 1 / N), torch.zeros(B, N)
    >>> key, add, gate = torch.randn(B, R, W), torch.randn(B, R, W), torch.zeros(B, R)
    >>> step = mannkern.functional.lrua_step(*state, key, add, gate)
    >>> step.memory.shape, step.read.shape
    (torch.Size([16, 128, 40]), torch.Size([16, 4, 40]))
    """
    B, N, W = check_first("memory", memory, "BNW")
    R = check_first("key", key, "BRW")[1]
    chosen = choose("lrua", backend, memory.device, N, W, R, "lrua_step", memory.dtype)
    takes_half = chosen.takes_half
    memory = memory if takes_half else widen(memory)
    read_weights = check_tensor(memory, "read_weights", read_weights, "BRN", (B, R, N), takes_half)
    usage = check_tensor(memory, "usage", usage, "BN", (B, N), takes_half)
    key = check_tensor(memory, "key", key, "BRW", (B, R, W), takes_half)
    add = check_tensor(memory, "add", distinct(add, key), "BRW", (B, R, W), takes_half)
    gate = check_tensor(memory, "gate", gate, "BR", (B, R), takes_half)
    strength = check_strength(memory, "strength", strength, "BR", (B, R), takes_half)
    options = _options(R, N, num_least_used, least_used, decay)
    arguments = (memory, read_weights, usage, key, add, gate, strength, *options)
    if chosen.overload is None:
        return LRUAStep(*reference.lrua_step(*arguments, _slots_for_onnx(usage, options[0])))
    return LRUAStep(*LRUAStepFunction.apply_fast(*arguments, chosen.overload)[:5])


def _slots_for_onnx(usage: Tensor, n: int) -> Tensor | None:
    """The least used slots (B, n) in a call traced for ONNX. It has no stable sort; its TopK breaks ties by index."""
    return torch.topk(usage.detach(), n, largest=False).indices if for_onnx() else None


def _options(R: int, N: int, num_least_used: int | None, least_used: str, decay: float) -> tuple[int, bool, float]:
    n = min(R, N) if num_least_used is None else num_least_used
    return check_number_of_slots("num_least_used", n, N), check_least_used(least_used), check_decay(decay)


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
    """T memory steps on keys and adds (T, B, R, W), gates and strengths (T, B, R), as T calls of :func:`lrua_step`.

    It serves episodes whose controller does not read its memory back, so that all its inputs are known at the start.
    For backward it checkpoints the memory: at most 7 times on the CPU; on a GPU about sqrt(T) times by CUDA's kernels,
    which also save R N numbers a step, and sqrt(T)/2 times by Triton's. T = 0 returns the state as it came. State and
    options are those of :func:`lrua_step`.

    >>> T, B, N, W, R = 50, 16, 128, 40, 4
    >>> state = torch.zeros(B, N, W), torch.full((B, R, N), 1 / N), torch.zeros(B, N)
    >>> keys, adds, gates = torch.randn(T, B, R, W), torch.randn(T, B, R, W), torch.zeros(T, B, R)
    >>> mannkern.functional.lrua_scan(*state, keys, adds, gates).reads.shape
    torch.Size([50, 16, 4, 40])
    """
    B, N, W = check_first("memory", memory, "BNW")
    T, _, R, _ = check_first("keys", keys, "TBRW")
    chosen = choose("lrua", backend, memory.device, N, W, R, "lrua_scan", memory.dtype)
    takes_half = chosen.takes_half
    memory = memory if takes_half and T else widen(memory)
    read_weights = check_tensor(memory, "read_weights", read_weights, "BRN", (B, R, N), takes_half and T > 0)
    usage = check_tensor(memory, "usage", usage, "BN", (B, N), takes_half and T > 0)
    keys = check_tensor(memory, "keys", keys, "TBRW", (T, B, R, W), takes_half)
    adds = check_tensor(memory, "adds", distinct(adds, keys), "TBRW", (T, B, R, W), takes_half)
    gates = check_tensor(memory, "gates", gates, "TBR", (T, B, R), takes_half)
    strengths = check_strength(memory, "strengths", strengths, "TBR", (T, B, R), takes_half)
    options = _options(R, N, num_least_used, least_used, decay)
    arguments = (memory, read_weights, usage, keys, adds, gates, strengths, *options)
    overload = chosen.scan_overload or chosen.overload
    if overload is None or T == 0:
        return LRUAScan(*reference.lrua_scan(*arguments))
    return LRUAScan(*LRUAScanFunction.apply_fast(*arguments, torch.is_grad_enabled(), overload)[:4])
