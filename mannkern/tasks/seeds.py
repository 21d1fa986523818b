"""Random generators that depend on a seed and a step alone, so that a resumed training sees the same data."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator for batch ``index`` (the training step, below 2**32) of ``seed``."""
    stream = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "little")
    # A CPU generator keeps 32 bits of its seed; an odd factor gives every index a seed of its own.
    return torch.Generator(device).manual_seed((stream + index * 0x9E3779B1) % 2**32)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers in [0, 1), float32 whatever the default dtype: another one would draw other numbers."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, as ``uniform``."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)


def different_below(limits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(*limits.shape, count) int64, different numbers below each of ``limits``, all at least ``count``.

    As ``different``, and every order is equally likely too.
    """
    numbers = torch.empty(*limits.shape, count, dtype=torch.int64, device=generator.device)
    for i in range(count):
        last = limits - count + i
        drawn = torch.minimum((uniform(generator, *limits.shape) * (last + 1)).long(), last)
        taken = (numbers[..., :i] == drawn.unsqueeze(-1)).any(-1)
        numbers[..., i] = torch.where(taken, last, drawn)
    return numbers.gather(-1, uniform(generator, *numbers.shape).argsort(-1))


def different(rows: int, count: int, limit: int, generator: torch.Generator) -> Tensor:
    """(rows, count) int64, different numbers below ``limit`` in each row, by Floyd's algorithm for all rows at once.

    Every set of numbers is equally likely, but not every order within a row.
    """
    numbers = torch.empty(rows, count, dtype=torch.int64, device=generator.device)
    for i in range(count):
        last = limit - count + i
        drawn = torch.randint(last + 1, (rows,), generator=generator, device=generator.device)
        taken = (numbers[:, :i] == drawn[:, None]).any(1)
        numbers[:, i] = drawn.masked_fill(taken, last)
    return numbers
