"""Matching Networks (Vinyals et al. 2016): a query reads its label from a memory whose slots are the support set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import functional
from mannkern.backends import check_name
from mannkern.integers import check_integer
from mannkern.memories.checks import without_autocast
from mannkern.models.checks import check_episode
from mannkern.models.embedding import ConvEmbedding


class MatchingNetwork(nn.Module):
    """Classes of queries by cosine attention over the embedded support set (equation 1 and section 2.1.1).

    p(y | x, S) = sum_i a(x, x_i) y_i,  a(x, x_i) = softmax_i b cos(f(x), g(x_i))

    num_classes C;  width W of the embedding, which f and g share;  channels of an image: 1, or 3 in colour.
    strength: b, the sharpness of the attention. The paper has no b, which is the default 1. Embeddings that end in a
    ReLU have cosines in [0, 1], so with 1 the right class gets a probability of at most e / (e + C - 1), 40% of five
    classes and 13% of twenty, even where it matches perfectly.
    full_context: whether f and g depend on the whole support set (:class:`SupportContext`, :class:`QueryContext`).
    Without it, the default, the order of the support set does not matter.
    steps: K, how often the query's LSTM reads the support set, under full context.
    backend: of :func:`mannkern.functional.cosine_read`, which computes the attention.

    Raises ValueError or TypeError, naming the argument, for impossible numbers and tensors.

    >>> model = mannkern.models.MatchingNetwork(num_classes=5)
    >>> support, labels = torch.rand(2, 5, 28, 28), torch.arange(5).expand(2, 5)  # 2 tasks, an example of each class
    >>> model(support, labels, torch.rand(2, 3, 28, 28)).shape  # 3 queries
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 64,
        channels: int = 1,
        strength: float = 1.0,
        full_context: bool = False,
        steps: int = 5,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("width", width), ("steps", steps)):
            check_integer(name, value)
        if not 0 < strength < math.inf:
            raise ValueError(f"strength: got {strength}, need a finite number above 0")
        self.num_classes, self.channels = num_classes, channels
        self.strength = strength
        check_name(backend)
        self.backend = backend
        self.embedding = ConvEmbedding(width, channels=channels)
        self.support_context = SupportContext(width) if full_context else None
        self.query_context = QueryContext(width, steps) if full_context else None

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """support (B, N, P, P), labels (B, N) int64 in [0, C), queries (B, Q, P, P) -> log-probabilities (B, Q, C).

        With channels above 1 an image has the shape (channels, height, width) in place of (P, P).

        A class without an example in the support set gets the smallest normal number above 0 as its probability.
        """
        check_episode(support, labels, queries, self.num_classes, self.channels)
        N = support.shape[1]
        if queries.shape[1] == 0:  # nothing to answer
            return support.new_zeros(support.shape[0], 0, self.num_classes)
        embedded = self.embedding(torch.cat((support, queries), 1))  # together, so that one batch norm sees both
        memory, key = embedded[:, :N], embedded[:, N:]
        if self.support_context is not None and self.query_context is not None:
            memory = self.support_context(memory)
            key = self.query_context(key, memory)
        strength = key.new_full(key.shape[:2], self.strength)
        _, attention = functional.cosine_read(memory, key, strength, backend=self.backend)  # (B, Q, N)
        with without_autocast(attention.device):  # in float16 most of the small ones would be 0
            probabilities = attention @ F.one_hot(labels, self.num_classes).to(attention.dtype)
            return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


class SupportContext(nn.Module):
    """g of full context embeddings: a bidirectional LSTM over the support set, in its order (appendix A.2).

    g(x_i, S) = forward h_i + backward h_i + g'(x_i)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)

    def forward(self, support: Tensor) -> Tensor:
        """g' (B, N, W) -> g (B, N, W)."""
        both, _ = self.lstm(support)
        return both.unflatten(-1, (2, -1)).sum(-2) + support


class QueryContext(nn.Module):
    """f of full context embeddings: an LSTM that reads the support set K times before it answers (appendix A.1).

    h^_k, c_k = LSTM(f'(x), [h_(k-1), r_(k-1)], c_(k-1))
    h_k = h^_k + f'(x)
    r_k = sum_i a_i g(x_i),  a = softmax_i(h_k . g(x_i))

    f(x, S) = h_K; h_0 and c_0 are zero, so r_0 is the mean of the support set.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        # the paper has r beside h; beside the input it is the same, because a gate sums over both
        self.cell = nn.LSTMCell(2 * width, width)

    def forward(self, queries: Tensor, support: Tensor) -> Tensor:
        """f' (B, Q, W) and g (B, N, W) -> f (B, Q, W)."""
        h = cell = torch.zeros_like(queries)
        for _ in range(self.steps):
            read = torch.softmax(h @ support.mT, -1) @ support
            inputs = torch.cat((queries, read), -1)
            output, cell = (
                part.view_as(queries) for part in self.cell(inputs.flatten(0, 1), (h.flatten(0, 1), cell.flatten(0, 1)))
            )
            h = output + queries
        return h
