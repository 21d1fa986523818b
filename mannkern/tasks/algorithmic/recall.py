"""Associative recall: Graves et al. (2014), section 4.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mannkern.integers import check_integer
from mannkern.tasks.algorithmic.sequences import Sequences, Size, check_range, check_size, draw, empty, random_bits


@dataclass(frozen=True)
class AssociativeRecall:
    """Associative recall: the input is a list of items and one of them again, the answer the item after it (4.3).

    Size (n,): the number of items, from ``min_items`` to ``max_items``. An item is ``vectors`` = V random vectors.
    F = bits + 2, O = bits, T = n (V + 1) + V + 2 + V: an item delimiter (channel ``bits``) precedes every item, query
    delimiters (the last channel) stand on both sides of the query, then V steps answer. The query is any item but the
    last.

    >>> task = mannkern.tasks.AssociativeRecall()
    >>> task.sample(16, torch.Generator().manual_seed(0), (6,)).inputs.shape  # 6 items
    torch.Size([32, 16, 8])
    """

    bits: int = 6
    vectors: int = 3
    min_items: int = 2
    max_items: int = 6

    size_name: ClassVar[str] = "items"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, 1)
        check_integer("vectors", self.vectors, 1)
        check_range("items", self.min_items, self.max_items, floor=2)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def largest(self) -> Size:
        return (self.max_items,)

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        """From 2 to 20 items, as in the paper's figure 11."""
        return tuple((items,) for items in range(2, max(20, self.max_items) + 1))

    def optimal(self, sequences: Sequences) -> None:
        """None: the answer follows from the inputs."""

    def draw_size(self, generator: torch.Generator) -> Size:
        return (draw(generator, self.min_items, self.max_items),)

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` sequences of one number of items, drawn where ``size`` is None."""
        (number,) = check_size(self.draw_size(generator) if size is None else size, 2)
        V, B, bits = self.vectors, batch_size, self.bits
        shown = number * (V + 1)
        sequences = empty(shown + V + 2 + V, B, self.input_size, self.output_size)
        items = random_bits(generator, number, V, B, bits)
        queried = torch.randint(number - 1, (B,), generator=generator, device=generator.device)
        everyone = torch.arange(B, device=queried.device)
        listed = sequences.inputs[:shown].view(number, V + 1, B, self.input_size)
        listed[:, 0, :, bits] = 1
        listed[:, 1:, :, :bits] = items
        sequences.inputs[shown, :, bits + 1] = 1
        sequences.inputs[shown + 1 : shown + 1 + V, :, :bits] = items[queried, :, everyone].transpose(0, 1)
        sequences.inputs[shown + 1 + V, :, bits + 1] = 1
        sequences.targets[-V:] = items[queried + 1, :, everyone].transpose(0, 1)
        sequences.mask[-V:] = True
        return sequences
