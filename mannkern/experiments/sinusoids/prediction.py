"""The y that a model of sinusoids gives at new x, from a few points."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.experiments.sinusoids.config import SinusoidConfig


def predict(model: nn.Module, config: SinusoidConfig, x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    """x (K,) and y (K,) of the points shown, x (Q,) of the queries -> their y (Q,), after the steps of training.

    Raises ``ValueError`` or ``TypeError``, naming the argument.
    """
    for name, points in (("x", x), ("y", y), ("queries", queries)):
        if not isinstance(points, Tensor) or not points.is_floating_point():
            got = points.dtype if isinstance(points, Tensor) else type(points).__name__
            raise TypeError(f"{name}: got {got}, need a tensor of floating point")
        if points.dim() != 1 or not len(points):
            raise ValueError(f"{name}: got shape {tuple(points.shape)}, need one dimension with at least one point")
        if not points.isfinite().all():
            raise ValueError(f"{name}: got NaN or infinity, need finite numbers")
    if len(x) != len(y):
        raise ValueError(f"y: got {len(y)} points, need {len(x)} as in x")
    device = next(model.parameters()).device
    answers = model(*(points.float().view(1, -1, 1).to(device) for points in (x, y, queries)))
    return torch.flatten(answers).cpu()
