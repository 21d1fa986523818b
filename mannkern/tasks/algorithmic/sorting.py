"""Priority sort: Graves et al. (2014), section 4.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.sequences import Sequences, Size, check_size, empty, random_bits


@dataclass(frozen=True)
class PrioritySort:
    """Priority sort: the input is random vectors with priorities, the answer those of highest priority in order (4.5).

    Size (n,): the number of vectors, ``vectors`` in training. F = bits + 2, O = bits, T = n + 1 + ``answers``: steps 0
    to n - 1 show a vector and, on channel ``bits``, its priority, uniform in [-1, 1]; step n has a delimiter on the
    last channel; the last ``answers`` steps answer, the highest priority first.

    >>> mannkern.tasks.PrioritySort().sample(16, torch.Generator().manual_seed(0)).inputs.shape
    torch.Size([37, 16, 10])
    """

    bits: int = 8
    vectors: int = 20
    answers: int = 16

    size_name: ClassVar[str] = "vectors"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, 1)
        check_integer("vectors", self.vectors, 1)
        check_integer("answers", self.answers, 1, self.vectors)

    @property
    def input_size(self) -> int:
        return self.bits + 2

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def largest(self) -> Size:
        return (self.vectors,)

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        return (self.largest,)

    def optimal(self, sequences: Sequences) -> None:
        """None: the answer follows from the inputs."""

    def draw_size(self, generator: torch.Generator) -> Size:
        """Always ``vectors``: draws nothing."""
        return self.largest

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` sequences of one number of vectors."""
        (number,) = check_size(self.largest if size is None else size, self.answers)
        sequences = empty(number + 1 + self.answers, batch_size, self.input_size, self.output_size)
        vectors = random_bits(generator, number, batch_size, self.bits)
        priority = 2 * seeds.uniform(generator, number, batch_size) - 1
        sequences.inputs[:number, :, : self.bits] = vectors
        sequences.inputs[:number, :, self.bits] = priority
        sequences.inputs[number, :, self.bits + 1] = 1
        order = priority.argsort(dim=0, descending=True, stable=True)[: self.answers]
        sequences.targets[number + 1 :] = vectors.gather(0, order.unsqueeze(-1).expand(-1, -1, self.bits))
        sequences.mask[number + 1 :] = True
        return sequences
