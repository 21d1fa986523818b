"""A fine-tuned meta-memory network: its memory, and its own parameters of reasoning and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

if TYPE_CHECKING:
    from mannkern.models.meta_memory import MetaMemoryNetwork


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


class AdaptedNetwork:
    """The result of :meth:`MetaMemoryNetwork.adapt`: for each of B tasks, its memory and its own parameters.

    memory:     (B, K, W), the embedded support set
    values:     (B, K, O), the one-hot labels or targets
    parameters: of reasoning and output, by name, each (B, *shape)
    """

    def __init__(self, model: MetaMemoryNetwork, memory: Tensor, values: Tensor, parameters: dict[str, Tensor]) -> None:
        self.model = model
        self.memory = memory
        self.values = values
        self.parameters = parameters

    def __call__(self, queries: Tensor) -> Tensor:
        """Queries (B, Q, ...) of the same tasks -> (B, Q, O). Raises ValueError for another B."""
        check_queries(self.memory, queries)
        return self.answer(self.model.embedding(queries))

    def answer(self, embedded: Tensor) -> Tensor:
        """Embedded queries (B, Q, W) -> (B, Q, O)."""
        read = self.model.read(self.memory, self.values, embedded)
        features = torch.cat([embedded, read], -1)
        return vmap(lambda parameters, x: functional_call(self.model.answer, parameters, (x,)))(
            self.parameters, features
        )


def check_queries(support: Tensor, queries: Tensor) -> None:
    """Raises ``ValueError`` for queries that are not of the tasks of the support set."""
    if queries.dim() < 3 or queries.shape[0] != support.shape[0]:
        raise ValueError(f"queries: got shape {tuple(queries.shape)}, need (B, Q, ...) with B = {support.shape[0]}")
