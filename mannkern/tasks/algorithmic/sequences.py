"""Sequences of bits, and their cost: the common part of the algorithmic tasks of Graves et al. (2014), section 4."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer

Size = tuple[int, ...]


class Sequences(NamedTuple):
    """A batch of B sequences of T steps. All have one length, so none is padded.

    inputs:  (T, B, F) float32, zero where an answer is due (except n-grams, which continue)
    targets: (T, B, O) float32, the bits of the answer, 0 where no answer is due
    mask:    (T, B) bool, True where an answer is due, at the same steps in every sequence of the batch
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor


class SequenceTask(Protocol):
    """A task: a frozen dataclass whose fields are its sizes. ``size_name`` says what a ``Size`` counts."""

    @property
    def input_size(self) -> int:
        """Input features F."""

    @property
    def output_size(self) -> int:
        """Bits O of an answer."""

    @property
    def size_name(self) -> str:
        """The meaning of the numbers of a size, such as "length x repeats"."""

    @property
    def largest(self) -> Size:
        """The largest size that training draws."""

    @property
    def evaluation_sizes(self) -> tuple[Size, ...]:
        """The sizes to report on, some of them beyond training."""

    def optimal(self, sequences: Sequences) -> Tensor | None:
        """Logits (T, B, O) of the best possible prediction, or None where it is perfect: the answer itself."""

    def draw_size(self, generator: torch.Generator) -> Size:
        """A size of training, drawn uniformly."""

    def sample(self, batch_size: int, generator: torch.Generator, size: Size | None = None) -> Sequences:
        """``batch_size`` = B sequences of one ``size``, drawn where it is None. ``generator`` is the only source."""


def answer_cost(logits: Tensor, sequences: Sequences) -> Tensor:
    """(B,) nats: the binary cross entropy of logits (T, B, O), summed over the answer of each sequence."""
    cost = F.binary_cross_entropy_with_logits(logits, sequences.targets, reduction="none")
    return (cost * sequences.mask.unsqueeze(-1)).sum((0, 2))


def bits_per_sequence(logits: Tensor, sequences: Sequences) -> Tensor:
    """(B,) bits, as Graves et al. (2014) report every task. Guessing costs one bit for each bit of the answer."""
    return answer_cost(logits, sequences) / math.log(2)


def wrong_bits(logits: Tensor, sequences: Sequences) -> Tensor:
    """(B,) int64: how many bits of the answer are wrong after rounding logits (T, B, O) to bits."""
    wrong = (logits > 0) != (sequences.targets > 0.5)
    return (wrong & sequences.mask.unsqueeze(-1)).sum((0, 2))


def answer_bits(sequences: Sequences) -> int:
    """The number of bits in the answer to one sequence."""
    return int(sequences.mask[:, :1].sum()) * sequences.targets.shape[2]


def size_text(size: Size) -> str:
    """``20``, or ``20 x 10`` for a size of two numbers."""
    return " x ".join(map(str, size))


def random_bits(generator: torch.Generator, *shape: int) -> Tensor:
    """Fair bits, 0.0 or 1.0."""
    return torch.randint(2, shape, generator=generator, device=generator.device).float()


def empty(steps: int, batch_size: int, input_size: int, output_size: int) -> Sequences:
    """Sequences with all inputs and targets 0 and no answer due."""
    return Sequences(
        torch.zeros(steps, batch_size, input_size, dtype=torch.float32, device="cpu"),
        torch.zeros(steps, batch_size, output_size, dtype=torch.float32, device="cpu"),
        torch.zeros(steps, batch_size, dtype=torch.bool, device="cpu"),
    )


def check_range(what: str, least: int, most: int, floor: int = 1) -> None:
    """Raises TypeError or ValueError naming ``min_what`` or ``max_what`` unless floor <= least <= most."""
    check_integer(f"min_{what}", least, floor)
    check_integer(f"max_{what}", most, least)


def check_size(size: Size, *least: int) -> Size:
    """``size``, if it has as many numbers as ``least`` and each is at least that large; else raises ValueError."""
    if len(size) != len(least) or any(number < floor for number, floor in zip(size, least)):
        raise ValueError(f"size: got {size}, need {len(least)} numbers, at least {', '.join(map(str, least))}")
    return size


def draw(generator: torch.Generator, least: int, most: int) -> int:
    """An integer from ``least`` to ``most``, drawn uniformly."""
    return int(torch.randint(least, most + 1, (), generator=generator, device=generator.device))
