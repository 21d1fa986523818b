"""Layer augmentation (Munkhdalai and Yu 2017): layers with both slow and fast weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.models.embedding import ConvEmbedding

Weights = dict[str, Tensor]
"""Weights of layers by parameter name, with a leading dimension for the groups that they belong to."""


class AugmentedNetwork(nn.Module):
    """A convolutional network whose last layers take fast weights beside their own slow weights (section 3.3).

    An augmented layer applies both weights to its input, a ReLU to each result, and adds the two. ``output``, the last
    layer, has no ReLU.

    The network has ``blocks`` blocks of 3 x 3 convolution, ReLU and max pooling 2 x 2, then ``hidden``, ``width``
    ReLUs, and ``output``, C logits, all without bias. ``hidden``, ``output`` and the last ``augmented_blocks`` blocks
    are augmented. The other blocks have slow weights alone and batch norm; augmented blocks have no batch norm, because
    they see one example at a time. Both are as in the authors' code. ``hidden`` sees the mean over the positions that
    the blocks leave; after four blocks an image of 16 to 31 pixels a side has one. With ``round_up`` pooling rounds odd
    sides up, as the authors' does, so that an image of 28 pixels has one after five blocks.

    Inputs are E groups of n examples; the examples of a group share their fast weights.
    """

    def __init__(
        self, num_classes: int, width: int, blocks: int, augmented_blocks: int, round_up: bool = False
    ) -> None:
        super().__init__()
        plain = blocks - augmented_blocks
        self.round_up = round_up
        self.trunk: nn.Module = ConvEmbedding(width, plain).layers if plain else nn.Identity()
        for layer in self.trunk.modules():
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = round_up
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width if block else 1, width, 3, padding=1, bias=False) for block in range(plain, blocks)
        )
        self.hidden = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, num_classes, bias=False)
        for layer in (*self.convolutions, self.hidden):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)  # the authors' initialization
        # Labels mean nothing beyond an episode, and unlearning large slow logits would silence the ReLUs before them.
        nn.init.normal_(self.output.weight, std=0.1 * width**-0.5)

    def augmented(self) -> list[str]:
        """Names of the augmented layers' weights, ``output``'s last."""
        return [*(f"convolutions.{k}.weight" for k in range(len(self.convolutions))), "hidden.weight", "output.weight"]

    def features(self, images: Tensor) -> Tensor:
        """images (E, n, P, P) -> features (E, n, channels, S, S), the input of the first augmented layer."""
        return self.trunk(images.flatten(0, 1).unsqueeze(1)).contiguous().unflatten(0, images.shape[:2])

    def embed(self, features: Tensor, fast: Weights) -> Tensor:
        """features (E, n, channels, S, S) -> (E, n, width): the sum of both paths through ``hidden``, without a ReLU.

        fast: weights (E, ...) of the augmented layers but ``output``.
        """
        slow, other = self._hidden(features, fast)
        return slow + other

    def forward(self, features: Tensor, fast: Weights | None = None, embed: bool = False) -> Tensor:
        """features (E, n, channels, S, S) -> logits (E, n, C).

        fast: weights (E, ...) of all augmented layers; None to use the slow weights alone. embed: returns the result of
        ``hidden`` by slow weights (E, n, width) instead.
        """
        slow, other = self._hidden(features, fast)
        if embed:
            return slow
        if fast is None:
            return self.output(F.relu(slow))
        x = F.relu(slow) + F.relu(other)
        return self.output(x) + x @ fast["output.weight"].mT

    def _hidden(self, features: Tensor, fast: Weights | None) -> tuple[Tensor, Tensor]:
        """``hidden`` by slow and by fast weights, both (E, n, width); the first one twice if ``fast`` is None."""
        x, groups = features, features.shape[:2]
        for k, convolution in enumerate(self.convolutions):
            flat = x.flatten(0, 1)
            y = F.relu(convolution(flat))
            if fast is not None:
                columns = F.unfold(flat, 3, padding=1).unflatten(0, groups)
                weight = fast[f"convolutions.{k}.weight"].flatten(2)
                y = y + F.relu(torch.einsum("eoi,enil->enol", weight, columns)).reshape(y.shape)
            x = F.max_pool2d(y, 2, ceil_mode=self.round_up).unflatten(0, groups)
        x = x.mean((-2, -1))
        slow = self.hidden(x)
        return slow, slow if fast is None else x @ fast["hidden.weight"].mT
