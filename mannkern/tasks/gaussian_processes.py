"""Regression of functions that are drawn from a Gaussian process: Santoro et al. (2016), section 4.3."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks import seeds

INPUTS = (-2.0, 2.0)
"""Every coordinate of a point is uniform in this range."""
MOST_DIMENSIONS = 3  # the paper's


class Functions(NamedTuple):
    """A batch of B functions of n variables, each seen at T points.

    inputs:  (T, B, n + 1) float32, ``[x_t, y_{t-1}]``: the point and the value at the point before, 0 at the first step
    targets: (T, B) float32, ``y_t``, the function's value at ``x_t`` plus noise
    """

    inputs: Tensor
    targets: Tensor


class GaussianProcessSampler:
    """Samples functions from a Gaussian process with mean 0 and the kernel of :func:`kernel`.

    dimensions:   n, the variables of a function: 1, 2 or 3
    length:       T, the points of a function
    length_scale: of the kernel
    noise:        standard deviation of the noise on every value
    seed:         at least 0; each seed gives other functions

    The paper fixes the process; these defaults are ours, not the paper's.
    Raises TypeError or ValueError that name the argument.

    >>> mannkern.tasks.GaussianProcessSampler().sample(batch_size=16, index=0).inputs.shape
    torch.Size([50, 16, 2])
    """

    def __init__(
        self, dimensions: int = 1, length: int = 50, length_scale: float = 1.0, noise: float = 0.05, seed: int = 0
    ) -> None:
        check_integer("dimensions", dimensions, 1, MOST_DIMENSIONS)
        check_integer("length", length, 1)
        check_integer("seed", seed, 0)
        for name, value in (("length_scale", length_scale), ("noise", noise)):
            if not 1e-3 <= value <= 1e3:  # beyond, a covariance is no longer positive in float64
                raise ValueError(f"{name}: got {value}, need a number from 0.001 to 1000")
        self.dimensions = dimensions
        self.length = length
        self.length_scale = length_scale
        self.noise = noise
        self.input_size = dimensions + 1
        self._seed = seed

    def sample(self, batch_size: int, index: int) -> Functions:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 functions.

        Depends on the constructor's arguments, ``batch_size`` and ``index`` alone. Torch's generator stays as it was.
        """
        check_integer("batch_size", batch_size, 0)
        check_integer("index", index, 0, 2**32 - 1)
        generator = seeds.generator(self._seed, index)
        return episodes(*self.draw(self.points(batch_size, self.length, generator), generator))

    def points(self, batch_size: int, number: int, generator: torch.Generator) -> Tensor:
        """Points (B, number, n), float64."""
        low, high = INPUTS
        shape = batch_size, number, self.dimensions
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)

    def draw(self, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The points (B, P, n), and the values (B, P) of a function of each batch there, with noise, float64."""
        white = torch.randn(points.shape[:2], generator=generator, dtype=torch.float64, device=generator.device)
        return points, (self._root(points) @ white.unsqueeze(-1)).squeeze(-1)

    def predictions(self, functions: Functions) -> tuple[Tensor, Tensor]:
        """What the process itself, which knows its kernel, says of each value given those before: mean and deviation.

        Both (T, B), float64. No prediction has a higher mean log-likelihood. With the covariance's root L, the values
        are L z, so that the mean of value t is L[t, :t] z[:t] and its deviation L[t, t].
        """
        points = functions.inputs[..., : self.dimensions].transpose(0, 1).double()
        values = functions.targets.T.double().unsqueeze(-1)
        root = self._root(points)
        white = torch.linalg.solve_triangular(root, values, upper=False)
        deviation = root.diagonal(dim1=-2, dim2=-1)
        return (values.squeeze(-1) - deviation * white.squeeze(-1)).T, deviation.T

    def posterior(self, points: Tensor, values: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, Q) of noisy values at ``queries`` (B, Q, n), given those (B, P) at ``points``."""
        root = self._root(points)
        white = torch.linalg.solve_triangular(root, values.unsqueeze(-1), upper=False)
        weights = torch.linalg.solve_triangular(root, kernel(points, queries, self.length_scale), upper=False)
        variance = 1 + self.noise**2 - weights.square().sum(-2)
        return (weights * white).sum(-2), variance.clamp(min=self.noise**2).sqrt()

    def _root(self, points: Tensor) -> Tensor:
        """Lower triangular (B, P, P): the root of the covariance of the noisy values at ``points`` (B, P, n)."""
        covariance = kernel(points, points, self.length_scale)
        return torch.linalg.cholesky(
            covariance + self.noise**2 * torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
        )


def kernel(points: Tensor, others: Tensor, length_scale: float) -> Tensor:
    """exp(-|x - x'|^2 / (2 length_scale^2)) of points (B, P, n) and others (B, Q, n), (B, P, Q)."""
    distance = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
    return (-0.5 * (distance / length_scale).square()).exp()


def episodes(points: Tensor, values: Tensor) -> Functions:
    """Points (B, T, n) and the values there (B, T) as a batch of functions, float32."""
    before = F.pad(values[:, :-1], (1, 0))
    inputs = torch.cat((points, before.unsqueeze(-1)), -1).transpose(0, 1)
    return Functions(inputs.float().contiguous(), values.T.float().contiguous())
