"""The output module of a meta-memory network, whose parameters each task adapts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Answer(nn.Module):
    """Reasoning and output: [e, r] (..., 2 W + O) -> (..., O). The last O numbers are the values read."""

    def __init__(self, input_size: int, hidden_size: int, layers: int, outputs: int, vote: float) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for width in [input_size, *[hidden_size] * (layers - 1)]:
            parts += [nn.Linear(width, hidden_size), nn.ReLU()]
        self.reasoning = nn.Sequential(*parts)
        self.output = nn.Linear(hidden_size, outputs)
        self.vote = nn.Parameter(torch.tensor([vote]))

    def forward(self, features: Tensor) -> Tensor:
        values = features[..., features.shape[-1] - self.output.out_features :]
        return self.output(self.reasoning(features)) + self.vote * values
