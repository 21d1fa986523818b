"""The contrastive loss of pairs (Chopra et al. 2005), which Meta Networks have for more than one example of a class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.models.layer_augmentation import AugmentedNetwork, Weights

MARGIN = 1.0
"""Embeddings of different classes that are farther apart than this cost nothing."""


def pair_loss(embedded: Tensor, same: Tensor, other: Tensor) -> Tensor:
    """(|e - same|^2 + max(0, m - |e - other|)^2) / 2 of embeddings (..., W), (...): two pairs, alike and different."""
    apart = (embedded - same).square().sum(-1)
    far = ((embedded - other).square().sum(-1) + 1e-12).sqrt()  # a root of 0 has no gradient
    return 0.5 * (apart + F.relu(MARGIN - far).square())


def partners(labels: Tensor) -> tuple[Tensor, Tensor]:
    """labels (B, N) -> for each example the next one of its class, and the next one of another, (B, N) int64 both.

    After the last example comes the first. An example without such a partner is its own.
    """
    N = labels.shape[1]
    ahead = (torch.arange(N, device=labels.device) - torch.arange(N, device=labels.device)[:, None]) % N  # (N, N)
    alike = labels.unsqueeze(2) == labels.unsqueeze(1)  # (B, N, N)
    ahead = ahead.masked_fill(ahead == 0, N)  # the example itself comes last
    own = torch.arange(N, device=labels.device).expand_as(labels)
    found = []
    for suitable in (alike, ~alike):
        distance, place = ahead.masked_fill(~suitable, 2 * N).min(2)
        found.append(torch.where(distance < N, place, own))
    return found[0], found[1]


def pair_gradients(network: AugmentedNetwork, features: Tensor, labels: Tensor) -> Weights:
    """The gradient of each example's pair loss for every augmented weight but ``output``, with slow weights alone.

    features (B, N, channels, S, S), labels (B, N) -> gradients (B, N, ...), which can be differentiated once more.
    """

    def loss(weights: Weights, x: Tensor) -> Tensor:
        return pair_loss(*torch.func.functional_call(network, weights, (x.unsqueeze(0),), {"embed": True})[0])

    weights: Weights = {name: network.get_parameter(name) for name in network.augmented() if name != "output.weight"}
    each = torch.arange(len(labels), device=labels.device)[:, None]
    trios = torch.stack([features, *(features[each, place] for place in partners(labels))], 2)  # (B, N, 3, ...)
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, trios.flatten(0, 1))
    return {name: x.unflatten(0, labels.shape) for name, x in gradients.items()}
