"""The bits that a model of an algorithmic task answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.experiments.algorithmic.config import AlgorithmicConfig


def predict(model: nn.Module, config: AlgorithmicConfig, inputs: Tensor) -> Tensor:
    """inputs (T, B, F) floating point, as the task's ``sample`` has them -> bits (T, B, O) float32, 0 or 1.

    Raises ``ValueError`` or ``TypeError``, naming the argument.
    """
    size = config.make_task().input_size
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"inputs: got {got}, need a tensor of floating point")
    if inputs.dim() != 3 or inputs.shape[2] != size:
        raise ValueError(f"inputs: got shape {tuple(inputs.shape)}, need (T, B, {size})")
    if not inputs.isfinite().all():
        raise ValueError("inputs: got NaN or infinity, need finite numbers")
    logits = model(inputs.float().to(next(model.parameters()).device))
    return (logits > 0).to(torch.float32).cpu()
