"""Images that tell what they are, and how an episode of them is read."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.tasks.characters.episodes import Episodes


def coded_images(classes: int, drawings: int = 20, side: int = 20) -> Tensor:
    """Images that tell what they are: the first pixel is the class, the second the drawing, the third is 255."""
    images = torch.zeros(classes, drawings, side, side, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.arange(classes)[:, None]
    images[:, :, 0, 1] = torch.arange(drawings)
    images[:, :, 0, 2] = 255
    return images


def decode(episodes: Episodes) -> tuple[Tensor, Tensor]:
    """The class and the drawing of every step, both (T, B)."""
    code = (episodes.inputs[..., :2] * 255).round().long()
    return code[..., 0], code[..., 1]
