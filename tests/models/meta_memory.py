"""Meta-memory networks and tasks in small."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mannkern.models import MetaMemoryNetwork

LOSSES = ("cross_entropy", "mean_squared_error")


def build(loss: str = "cross_entropy", outputs: int = 3, width: int = 4, **options: Any) -> MetaMemoryNetwork:
    """Of inputs (..., 5), float64, smooth but for the ReLUs of reasoning."""
    torch.manual_seed(0)
    embedding = nn.Sequential(nn.Linear(5, width), nn.Tanh())
    return MetaMemoryNetwork(embedding, width, outputs, loss=loss, **{"hidden_size": 6, "layers": 2} | options).double()


def task(loss: str = "cross_entropy", B: int = 3, shots: int = 2, Q: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Support (B, 3 shots, 5), labels of three classes or targets (B, 3 shots, 3), and queries (B, Q, 5)."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    labels = torch.arange(3).repeat(B, shots)
    return normal(B, 3 * shots, 5), labels if loss == "cross_entropy" else normal(B, 3 * shots, 3), normal(B, Q, 5)
