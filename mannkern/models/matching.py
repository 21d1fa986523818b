"""Matching Networks (Vinyals et al. 2016): the label of a query is read from a memory whose slots are the support."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import functional
from mannkern.models.embedding import ConvEmbedding


class MatchingNetwork(nn.Module):
    """Classes of queries by cosine attention over the embedded support set.

    num_classes C; width W of the embedding; backend: of :func:`mannkern.functional.cosine_read`.
    """

    def __init__(self, num_classes: int, *, width: int = 64, backend: str | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backend = backend
        self.embedding = ConvEmbedding(width)

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """support (B, N, P, P), labels (B, N) int64 in [0, C), queries (B, Q, P, P) -> log-probabilities (B, Q, C)."""
        N = support.shape[1]
        embedded = self.embedding(torch.cat((support, queries), 1))  # together: one batch norm sees both
        memory, key = embedded[:, :N].contiguous(), embedded[:, N:].contiguous()
        _, attention = functional.cosine_read(memory, key, backend=self.backend)  # (B, Q, N)
        probabilities = attention @ F.one_hot(labels, self.num_classes).to(attention.dtype)
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()  # a class that is not shown: 0
