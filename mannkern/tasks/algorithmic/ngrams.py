"""Dynamic n-grams: Graves et al. (2014), section 4.4."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.sequences import Sequences, Size, check_size, empty, random_bits


@dataclass(frozen=True)
class DynamicNGrams:
    """Dynamic n-grams: predict each bit of a random n-gram model from the bits before it (section 4.4).

    Size (L,): the number of bits, ``length`` in training. F = O = 1, T = L - 1: step t shows bit t, its target is bit
    t + 1. Every sequence has a table of its own, with the probability of a 1 after each of the 2**context contexts,
    drawn from Beta(1/2, 1/2). The first ``context`` bits are fair and no answer is due for them. The paper's 6-grams
    have a context of 5.

    >>> mannkern.tasks.DynamicNGrams().sample(16, torch.Generator().manual_seed(0)).inputs.shape
    torch.Size([199, 16, 1])
    """

    context: int = 5
    length: int = 200

    size_name: ClassVar[str] = "bits"

    def __post_init__(self) -> None:
        check_integer("context", self.context, 1, 16)
        check_integer("length", self.length, self.context + 1)

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def largest(self) -> Size:
        return (self.length,)

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        return (self.largest,)

    def draw_size(self, generator: torch.Generator) -> Size:
        """Always ``length``: draws nothing."""
        return self.largest

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` sequences, each with a table of its own."""
        (length,) = check_size(self.largest if size is None else size, self.context + 1)
        contexts = 2**self.context
        # The quantile function of Beta(1/2, 1/2), the arcsine distribution.
        table = (math.pi / 2 * seeds.uniform(generator, batch_size, contexts)).sin().square()
        uniform = seeds.uniform(generator, length, batch_size)
        bits = torch.empty_like(uniform)
        bits[: self.context] = random_bits(generator, self.context, batch_size)
        before = self._contexts(bits[: self.context])[0]
        for t in range(self.context, length):
            bits[t] = uniform[t] < table.gather(1, before.unsqueeze(1))[:, 0]
            before = (2 * before + bits[t].long()) % contexts
        sequences = empty(length - 1, batch_size, 1, 1)
        sequences.inputs[..., 0] = bits[:-1]
        sequences.targets[self.context - 1 :, :, 0] = bits[self.context :]
        sequences.mask[self.context - 1 :] = True
        return sequences

    def optimal(self, sequences: Sequences) -> Tensor:
        """Logits (T, B, 1) of the best prediction from the bits before (equation 10 of the paper). No model is better.

        The probability of a 1 is (N1 + 1/2) / (N0 + N1 + 1), where N1 ones and N0 zeros came after the same context
        before. Where no answer is due it is 1/2, logit 0.
        """
        context = F.one_hot(self._contexts(sequences.inputs[..., 0]), 2**self.context)  # (T', B, contexts)
        next_bit = sequences.targets[self.context - 1 :].long()
        counts = []
        for bit in (0, 1):
            here = context * (next_bit == bit)
            earlier = here.cumsum(0) - here
            counts.append((earlier * context).sum(-1) + 0.5)
        logits = counts[1].log() - counts[0].log()
        return F.pad(logits, (0, 0, self.context - 1, 0)).unsqueeze(-1)

    def _contexts(self, bits: Tensor) -> Tensor:
        """bits (T, B) -> (T - context + 1, B): the last ``context`` bits at each step as a number, oldest bit first."""
        last = len(bits) - self.context + 1
        return torch.stack([bits[i : i + last].long() << (self.context - 1 - i) for i in range(self.context)]).sum(0)
