"""The convolutional embedding of drawings, which the few-shot models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer


class ConvEmbedding(nn.Module):
    """An image as a vector: ``blocks`` of convolution 3 x 3, batch norm, ReLU, max pooling 2 x 2 (Vinyals et al. 2016,
    section 4.1.1: four blocks of 64 filters).

    After four blocks an image of 16 x 16 to 31 x 31 pixels has one position left. Larger images have more; their mean
    is the embedding, so it has ``width`` numbers for every size of image.

    Raises ValueError for sizes under 1, and for an image that is too small for the number of blocks.
    """

    def __init__(self, width: int = 64, blocks: int = 4, channels: int = 1) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("channels", channels)):
            check_integer(name, value)
        self.width, self.channels = width, channels
        self.least_side = 2**blocks
        layers: list[nn.Module] = []
        for block in range(blocks):
            # no bias, because batch norm adds one
            layers.append(nn.Conv2d(width if block else channels, width, 3, padding=1, bias=False))
            # pooled before the ReLU, which gives the same numbers and leaves it a quarter of them
            layers += [nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU()]
        # channels last, because a training step on the CPU then takes 0.6 of the time
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """images (..., P, P), or (..., channels, P, P) where channels > 1 -> (..., width)."""
        if self.channels == 1:
            images = images.unsqueeze(-3)
        if min(images.shape[-2:]) < self.least_side:
            raise ValueError(f"images: got {tuple(images.shape[-2:])} pixels, need at least {self.least_side} a side")
        if images.shape[-3] != self.channels:
            raise ValueError(f"images: got {images.shape[-3]} channels, need {self.channels}")
        embedded = self.layers(images.reshape(-1, *images.shape[-3:])).mean((-2, -1))
        return embedded.view(*images.shape[:-3], self.width)
