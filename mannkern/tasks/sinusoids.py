"""Regression of sinusoids from a few points: the few-shot task of Finn et al. (2017), section 5.1."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.integers import check_integer
from mannkern.tasks import seeds

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
INPUTS = (-5.0, 5.0)


class Sinusoids(NamedTuple):
    """A batch of B tasks ``y = amplitude * sin(x - phase)``, all float32.

    support:    (B, K, 1), the x of the K support points
    labels:     (B, K, 1), the y of the support points
    queries:    (B, Q, 1), the x of the Q query points
    targets:    (B, Q, 1), the y of the query points, which a model has to answer
    amplitudes: (B,), uniform in [0.1, 5]
    phases:     (B,), uniform in [0, pi], radians
    """

    support: Tensor
    labels: Tensor
    queries: Tensor
    targets: Tensor
    amplitudes: Tensor
    phases: Tensor


class SinusoidSampler:
    """Samples sinusoids with x uniform in [-5, 5] and exact y.

    shots:   K support points (paper: 5 and 10)
    queries: Q query points
    seed:    at least 0; each seed gives other tasks

    Raises TypeError or ValueError that name the argument.

    >>> mannkern.tasks.SinusoidSampler().sample(batch_size=25, index=0)[0].shape
    torch.Size([25, 10, 1])
    """

    def __init__(self, shots: int = 10, queries: int = 10, seed: int = 0) -> None:
        check_integer("shots", shots, 1)
        check_integer("queries", queries, 1)
        check_integer("seed", seed, 0)
        self._shots = shots
        self._queries = queries
        self._seed = seed

    def sample(self, batch_size: int, index: int) -> Sinusoids:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 tasks.

        Depends on the constructor's arguments, ``batch_size`` and ``index`` alone. Torch's generator stays as it was.
        """
        check_integer("batch_size", batch_size, 0)
        check_integer("index", index, 0, 2**32 - 1)
        generator = seeds.generator(self._seed, index)

        def uniform(limits: tuple[float, float], *shape: int) -> Tensor:
            low, high = limits
            return low + (high - low) * seeds.uniform(generator, *shape)

        amplitudes, phases = uniform(AMPLITUDES, batch_size), uniform(PHASES, batch_size)
        x = uniform(INPUTS, batch_size, self._shots + self._queries, 1)
        y = sinusoid(x, amplitudes, phases)
        support, queries = x.split((self._shots, self._queries), 1)
        labels, targets = y.split((self._shots, self._queries), 1)
        return Sinusoids(support, labels, queries, targets, amplitudes, phases)


def sinusoid(x: Tensor, amplitudes: Tensor, phases: Tensor) -> Tensor:
    """``amplitude * sin(x - phase)`` at x (B, P, 1), for amplitudes and phases (B,)."""
    return amplitudes[:, None, None] * torch.sin(x - phases[:, None, None])
