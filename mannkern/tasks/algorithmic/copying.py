"""Copy and repeat copy: Graves et al. (2014), sections 4.1 and 4.2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mannkern.integers import check_integer
from mannkern.tasks.algorithmic.sequences import Sequences, Size, check_range, check_size, draw, empty, random_bits


@dataclass(frozen=True)
class Copy:
    """Copy: the input is random vectors and a delimiter, the answer is the same vectors (section 4.1).

    Size (L,): the length, from ``min_length`` to ``max_length``. F = bits + 1, O = bits, T = 2 L + 1: steps 0 to L - 1
    show the vectors, step L has the delimiter on the last channel, and the last L steps answer.

    >>> batch = mannkern.tasks.Copy().sample(16, torch.Generator().manual_seed(0), (20,))  # 20 vectors
    >>> batch.inputs.shape, batch.targets.shape
    (torch.Size([41, 16, 9]), torch.Size([41, 16, 8]))
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 20

    size_name: ClassVar[str] = "length"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, 1)
        check_range("length", self.min_length, self.max_length)

    @property
    def input_size(self) -> int:
        return self.bits + 1

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def largest(self) -> Size:
        return (self.max_length,)

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        """The lengths of the paper's figures 4 and 5, and the largest length of training."""
        return tuple((length,) for length in sorted({10, 20, 30, 50, 120, self.max_length}))

    def optimal(self, sequences: Sequences) -> None:
        """None: the answer follows from the inputs."""

    def draw_size(self, generator: torch.Generator) -> Size:
        return (draw(generator, self.min_length, self.max_length),)

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` sequences of one length, drawn where ``size`` is None."""
        (length,) = check_size(self.draw_size(generator) if size is None else size, 1)
        sequences = empty(2 * length + 1, batch_size, self.input_size, self.output_size)
        vectors = random_bits(generator, length, batch_size, self.bits)
        sequences.inputs[:length, :, : self.bits] = vectors
        sequences.inputs[length, :, self.bits] = 1
        sequences.targets[length + 1 :] = vectors
        sequences.mask[length + 1 :] = True
        return sequences


@dataclass(frozen=True)
class RepeatCopy:
    """Repeat copy: the input is random vectors and a number K, the answer the vectors K times and an end marker (4.2).

    Size (L, K): the length and the number of repeats, drawn independently. F = bits + 2, O = bits + 1,
    T = L + 1 + L K + 1: steps 0 to L - 1 show the vectors; step L has a delimiter on channel ``bits`` and the number on
    the last one; L K steps answer the vectors; the last step answers the end marker, 1 on the last bit and 0 before.
    The number appears as (K - mean) / deviation, where both are of K uniform from ``min_repeats`` to ``max_repeats``;
    the same holds for a K beyond them.

    >>> task = mannkern.tasks.RepeatCopy()
    >>> task.sample(16, torch.Generator().manual_seed(0), (10, 3)).inputs.shape  # 10 vectors, three times
    torch.Size([42, 16, 10])
    """

    bits: int = 8
    min_length: int = 1
    max_length: int = 10
    min_repeats: int = 1
    max_repeats: int = 10

    size_name: ClassVar[str] = "length x repeats"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, 1)
        check_range("length", self.min_length, self.max_length)
        check_range("repeats", self.min_repeats, self.max_repeats)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits + 1

    @property
    def largest(self) -> Size:
        return (self.max_length, self.max_repeats)

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        """The largest size of training, twice its length and twice its repeats, as 20 x 10 and 10 x 20 in figure 8."""
        length, repeats = self.largest
        return (length, repeats), (2 * length, repeats), (length, 2 * repeats)

    def optimal(self, sequences: Sequences) -> None:
        """None: the answer follows from the inputs."""

    def draw_size(self, generator: torch.Generator) -> Size:
        length = draw(generator, self.min_length, self.max_length)
        return length, draw(generator, self.min_repeats, self.max_repeats)

    def normalised(self, repeats: int) -> float:
        """The number of repeats as the network sees it, with mean 0 and variance 1 in training."""
        mean = (self.min_repeats + self.max_repeats) / 2
        variance = ((self.max_repeats - self.min_repeats + 1) ** 2 - 1) / 12
        return (repeats - mean) / math.sqrt(variance or 1)

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` sequences of one length and one number of repeats, drawn where ``size`` is None."""
        length, repeats = check_size(self.draw_size(generator) if size is None else size, 1, 1)
        sequences = empty(length + 1 + length * repeats + 1, batch_size, self.input_size, self.output_size)
        vectors = random_bits(generator, length, batch_size, self.bits)
        sequences.inputs[:length, :, : self.bits] = vectors
        sequences.inputs[length, :, self.bits] = 1
        sequences.inputs[length, :, self.bits + 1] = self.normalised(repeats)
        sequences.targets[length + 1 : -1, :, : self.bits] = vectors.repeat(repeats, 1, 1)
        sequences.targets[-1, :, self.bits] = 1
        sequences.mask[length + 1 :] = True
        return sequences
