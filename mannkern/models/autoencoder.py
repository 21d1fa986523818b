"""An autoencoder of drawings, and the nearest neighbours in its codes (Santoro et al. 2016, section 4.2, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer
from mannkern.models.neighbours import NearestNeighbours

LAYERS = (200, 200, 32)
"""Units of the encoder's layers; the last one's are the code, and the decoder has them in reverse (the paper's)."""


class Autoencoder(nn.Module):
    """Pixels to a short code and back: layers of ReLUs, without one after the code and after the last layer.

    inputs: P * P pixels in [0, 1];  layers: the units of each layer of the encoder, the code last
    Raises ValueError or TypeError for numbers under 1.

    >>> mannkern.models.Autoencoder(400)(torch.rand(16, 400)).shape
    torch.Size([16, 400])
    """

    def __init__(self, inputs: int, layers: Sequence[int] = LAYERS) -> None:
        super().__init__()
        for size in (inputs, *layers):
            check_integer("layers", size)
        sizes = [inputs, *layers]
        self.encoder = _stack(sizes)
        self.decoder = _stack(sizes[::-1])

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (..., P * P) -> the logits of their reconstruction (..., P * P)."""
        return self.decoder(self.encoder(pixels))


class EncodedNeighbours(nn.Module):
    """The nearest neighbours in the codes of an encoder in place of pixels, see :class:`NearestNeighbours`.

    encoder: (..., P * P) -> (..., code);  label_size, count: as there

    >>> encoder = mannkern.models.Autoencoder(400).encoder
    >>> neighbours = mannkern.models.EncodedNeighbours(encoder, label_size=5)
    >>> neighbours(torch.rand(50, 16, 405)).shape
    torch.Size([50, 16, 5])
    """

    def __init__(self, encoder: nn.Module, label_size: int, *, count: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.neighbours = NearestNeighbours(label_size, count=count)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F), ``[x_t, y_{t-1}]`` -> the winning label as logits (T, B, label_size)."""
        size = self.neighbours.label_size
        pixels, labels = inputs.split([inputs.shape[-1] - size, size], -1)
        return self.neighbours(torch.cat((self.encoder(pixels), labels), -1))


def _stack(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
