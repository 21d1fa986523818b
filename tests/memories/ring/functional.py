"""The public operations of the ring buffer: they check arguments and choose the backend."""

from __future__ import annotations

from torch import Tensor

from mannkern.backends import choose
from mannkern.memories.checks import check_first, check_tensor, widen
from tests.memories.ring import reference


def ring_write(memory: Tensor, place: Tensor, value: Tensor, *, backend: str | None = None) -> Tensor:
    """Write: M'(i) = (1 - p(i)) M(i) + p(i) v.

    memory (B, N, W), place p (B, N), one-hot at the slot that is overwritten, value v (B, W). Returns memory (B, N, W).
    """
    B, N, W = check_first("memory", memory, "BNW")
    choose("ring", backend, memory.device, N, W)
    memory = widen(memory)
    place = check_tensor(memory, "place", place, "BN", (B, N))
    value = check_tensor(memory, "value", value, "BW", (B, W))
    return reference.ring_write(memory, place, value)


def ring_read(memory: Tensor, key: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Read: w[h] = softmax_i(k[h] . M(i)), r[h] = sum_i w[h](i) M(i).

    memory (B, N, W), key k (B, R, W). Returns read (B, R, W) and read weights (B, R, N).
    """
    B, N, W = check_first("memory", memory, "BNW")
    R = check_first("key", key, "BRW")[1]
    choose("ring", backend, memory.device, N, W, R)
    memory = widen(memory)
    return reference.ring_read(memory, check_tensor(memory, "key", key, "BRW", (B, R, W)))
