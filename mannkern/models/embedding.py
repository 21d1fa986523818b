"""The convolutional embedding of drawings that few-shot models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer


class ConvEmbedding(nn.Module):
    """An image as a vector: ``blocks`` of convolution 3 x 3, batch norm, ReLU, max pooling 2 x 2 (Vinyals et al. 2016,
    section 4.1.1: four blocks of 64 filters).

    Images of 16 x 16 to 31 x 31 pixels end as one position under four blocks; of larger ones the mean over what
    positions are left is taken, so that the embedding has ``width`` numbers whatever the size.

    Raises ValueError where an image is too small for the number of blocks.
    """

    def __init__(self, width: int = 64, blocks: int = 4, channels: int = 1) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("channels", channels)):
            check_integer(name, value)
        self.width, self.channels = width, channels
        self.least_side = 2**blocks
        layers: list[nn.Module] = []
        for block in range(blocks):
            # batch norm has a bias of its own
            layers.append(nn.Conv2d(width if block else channels, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        # channels last: on the CPU a training step takes 0.6 of the time
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
