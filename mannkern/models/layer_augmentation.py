"""Layer augmentation of Meta Networks (Munkhdalai and Yu 2017): slow and fast weights side by side in a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = dict[str, Tensor]
"""Weights of some layers by parameter name, with leading dimensions for episodes or examples."""


class AugmentedNetwork(nn.Module):
    """Convolutional network whose last layers take fast weights beside their own, slow ones (section 3.3).

    An augmented layer passes its input through both, each with its activation, and adds the two up; the last layer
    has no activation. ``blocks`` blocks of 3x3 convolution, max pooling by 2 and ReLU, then ``hidden``, a layer of
    ``width`` ReLUs, and ``output`` with ``num_classes`` logits, none with a bias. Blocks that are not augmented, all
    but the last ``augmented_blocks``, have batch normalization: they alone, since an augmented layer sees examples one
    at a time. So it is in the authors' code where only the last layers are augmented.

    Rank: E groups of n examples; each group has fast weights of its own.
    """

    def __init__(self, num_classes: int, width: int, blocks: int, augmented_blocks: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width if k else 1, width, 3, padding=1, bias=False) for k in range(blocks)]
        trunk: list[nn.Module] = []
        for convolution in convolutions[: blocks - augmented_blocks]:
            trunk += [convolution, nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU()]  # ReLU and max commute
        self.trunk = nn.Sequential(*trunk).to(memory_format=torch.channels_last)  # twice as fast on a CPU
        self.convolutions = nn.ModuleList(convolutions[blocks - augmented_blocks :])
        self.hidden = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, num_classes, bias=False)
        for layer in (*convolutions, self.hidden, self.output):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)

    def augmented(self) -> list[str]:
        """Names of the parameters that have fast weights beside them, from the first layer to the last."""
        return [f"convolutions.{k}.weight" for k in range(len(self.convolutions))] + ["hidden.weight", "output.weight"]

    def features(self, images: Tensor) -> Tensor:
        """images (E, n, P, P) -> what enters the first augmented layer, (E, n, channels, S, S)."""
        x = images.flatten(0, 1).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.trunk(x).contiguous().unflatten(0, images.shape[:2])

    def embed(self, features: Tensor, fast: Weights | None = None) -> Tensor:
        """features (E, n, channels, S, S) -> embeddings (E, n, width): ``hidden`` before its activation, paths summed.

        fast: weights (E, *shape) of the convolutions and ``hidden``; None for the slow ones alone.
        """
        slow, other = self._hidden(features, fast)
        return slow if other is None else slow + other

    def classify(self, features: Tensor, fast: Weights | None = None) -> Tensor:
        """features (E, n, channels, S, S) -> logits (E, n, C); fast: weights (E, *shape) of every augmented layer."""
        slow, other = self._hidden(features, fast)
        if other is None or fast is None:
            return self.output(F.relu(slow))
        x = F.relu(slow) + F.relu(other)
        return self.output(x) + x @ fast["output.weight"].mT

    def forward(self, features: Tensor, fast: Weights | None = None) -> Tensor:
        """As ``classify``."""
        return self.classify(features, fast)

    def _hidden(self, features: Tensor, fast: Weights | None) -> tuple[Tensor, Tensor | None]:
        """``hidden`` of both paths before the activation, (E, n, width) each; no second one without fast weights."""
        x, groups = features, features.shape[:2]
        for k, convolution in enumerate(self.convolutions):
            flat = x.flatten(0, 1)
            y = F.relu(convolution(flat))
            if fast is not None:
                columns = F.unfold(flat, 3, padding=1).unflatten(0, groups)
                weight = fast[f"convolutions.{k}.weight"].flatten(2)
                y = y + F.relu(torch.einsum("eoi,enil->enol", weight, columns).reshape(y.shape))
            x = F.max_pool2d(y, 2).unflatten(0, groups)
        x = x.mean((-2, -1))  # one pixel for images of 16 to 31 pixels and four blocks
        return self.hidden(x), None if fast is None else x @ fast["hidden.weight"].mT
