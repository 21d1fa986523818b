"""Sequences of an ``IterableDataset`` by their place in it, and batches of them, padded to the longest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mannkern.tasks.characters.sampler import ALL
from mannkern.training.errors import CommandError


class Batch(NamedTuple):
    """B sequences of up to T steps; behind the end of a shorter one all is 0 and no answer is due.

    inputs:  (T, B, F) float32
    targets: (T, B) int64 for classes, (T, B, O) float32 otherwise
    mask:    (T, B) bool, True where an answer is due
    due:     () float32, how many answers are due, at least 1; in some rows of a batch, their share of its answers
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    due: Tensor


class Stream:
    """The sequences of a dataset, counted from 0; behind its end it begins anew.

    dataset: each iteration over it must give the same sequences; name: what errors call it; bits: whether targets are
    bits, 0 or 1
    """

    def __init__(self, name: str, dataset: Iterable[Any], bits: bool = False) -> None:
        self.name, self.dataset, self.bits = name, dataset, bits
        self.iterator: Iterator[Any] = iter(())
        self.position = -1  # of the next sequence

    def take(self, start: int, count: int) -> list[tuple[Tensor, ...]]:
        """The sequences ``start`` to ``start + count - 1``. For others than the next ones it reads from the start."""
        if start != self.position:
            self.iterator, self.position = iter(self.dataset), 0
            for _ in range(start):
                self._next()
        return [check_sequence(self._next(), f"{self.name}: sequence {start + i}", self.bits) for i in range(count)]

    def first(self, count: int) -> list[tuple[Tensor, ...]]:
        """The first ``count`` sequences, or all where there are fewer."""
        items = islice(iter(self.dataset), count)
        return [check_sequence(item, f"{self.name}: sequence {i}", self.bits) for i, item in enumerate(items)]

    def _next(self) -> Any:
        self.position += 1
        for item in self.iterator:
            return item
        self.iterator = iter(self.dataset)
        for item in self.iterator:
            return item
        raise CommandError(f"{self.name}: got no sequences, need at least one")


def check_sequence(item: Any, where: str, bits: bool = False) -> tuple[Tensor, ...]:
    """``(inputs, targets)`` or ``(inputs, targets, mask)`` as a tuple of three. Raises ``CommandError``."""
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3) or not all(isinstance(x, Tensor) for x in item):
        raise CommandError(
            f"{where}: got {type(item).__name__}, need tensors (inputs, targets) or (inputs, targets, mask)"
        )
    inputs, targets = item[:2]
    mask = item[2] if len(item) == 3 else torch.ones(len(inputs) if inputs.dim() else 0, dtype=torch.bool)
    if inputs.dim() != 2 or not len(inputs) or not inputs.is_floating_point():
        raise CommandError(f"{where}: inputs: got {tuple(inputs.shape)} {inputs.dtype}, need (T, F) floating point")
    need_dim = 2 if targets.is_floating_point() else 1
    if targets.shape[:1] != inputs.shape[:1] or targets.dim() != need_dim or targets.dtype in (torch.bool, torch.uint8):
        raise CommandError(
            f"{where}: targets: got {tuple(targets.shape)} {targets.dtype}, need ({len(inputs)},) integers or "
            f"({len(inputs)}, O) floating point"
        )
    if mask.shape != inputs.shape[:1] or mask.dtype != torch.bool:
        raise CommandError(f"{where}: mask: got {tuple(mask.shape)} {mask.dtype}, need ({len(inputs)},) torch.bool")
    if bits and not bool(((targets == 0) | (targets == 1) | ~mask[:, None]).all()):
        least, most = targets[mask].aminmax()
        raise CommandError(f"{where}: targets: got {float(least):.4g} to {float(most):.4g}, need bits, 0 or 1")
    return inputs.float(), targets.float() if targets.is_floating_point() else targets.long(), mask


def batch_of(sequences: Sequence[tuple[Tensor, ...]], device: torch.device, rows: slice = ALL) -> Batch:
    """The ``rows`` of a batch of sequences on ``device``, padded to the longest of all."""
    inputs, targets, mask = (pad_sequence(list(parts)) for parts in zip(*sequences, strict=True))
    own = mask[:, rows]
    due = mask.sum().clamp(min=1) * (own.shape[1] / mask.shape[1])
    return Batch(*(x.to(device) for x in (inputs[:, rows], targets[:, rows], own, due)))
