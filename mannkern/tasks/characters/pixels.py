"""What is done to the pixels of drawings: they are turned, shifted, reduced and scaled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGE_SCALES = ("maximum", "255")
"""What the pixels of a drawing are divided by: the darkest of them, or full ink."""


def rotate_and_shift(images: Tensor, angles: Tensor, shifts: Tensor) -> Tensor:
    """Turns and shifts every image by an amount of its own, with bilinear interpolation and 0 outside the frame.

    images: (N, height, width) or (N, channels, height, width) float
    angles: (N,) radians, counterclockwise about the centre as seen with row 0 on top
    shifts: (N, 2) pixels, (right, down), applied after the turn. Returns them in the same shape.
    """
    height, width = images.shape[-2:]
    columns, rows = (
        (2 * torch.arange(side, dtype=images.dtype, device=images.device) + 1) / side - 1 for side in (width, height)
    )
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    x = columns - shifts[:, None, 0] * (2 / width)
    y = rows - shifts[:, None, 1] * (2 / height)
    ratio = width / height  # of the frame, whose coordinates are -1 to 1 both ways
    # A sampling point is a term of its column plus a term of its row, which is far cheaper than affine_grid's product.
    # Both coordinates lie in planes of their own, because sums over a last dimension of two are slow.
    grid = torch.stack([x * cos, x * sin * ratio])[:, :, None] + torch.stack([-y * sin / ratio, y * cos])[..., None]
    frames = images if images.dim() == 4 else images[:, None]
    return F.grid_sample(frames, grid.permute(1, 2, 3, 0), align_corners=False).view_as(images)


def quarter_turns(images: Tensor, quarters: Tensor) -> Tensor:
    """images (N, P, P), each turned counterclockwise by its number of quarters (N,) int64, 0 to 3."""
    turned = images.clone()
    for quarter in (1, 2, 3):
        chosen = quarters == quarter
        turned[chosen] = torch.rot90(images[chosen], quarter, (1, 2))
    return turned


def average_area(ink: Tensor, side: int) -> Tensor:
    """Reduces images (..., P, P) to (..., side, side) float32 pixels, each the mean of the ink over its area.

    A source pixel on an edge counts by the part of it that lies inside, so an image keeps its mean ink.
    """
    scale = ink.shape[-1] / side
    starts = torch.arange(side, dtype=torch.float64, device="cpu")[:, None] * scale
    pixels = torch.arange(ink.shape[-1], dtype=torch.float64, device="cpu")
    overlap = torch.minimum(starts + scale, pixels + 1) - torch.maximum(starts, pixels)
    weights = (overlap.clamp(min=0) / scale).float().to(ink.device)
    return weights @ ink.float() @ weights.T


def divide_by_scale(pixels: Tensor, scale: str, out: Tensor) -> None:
    """Write pixels (..., P * P) of [0, 255], divided as ``scale`` says, to ``out``. A drawing without ink stays 0."""
    if scale == "255" or not pixels.numel():
        torch.div(pixels, 255, out=out)
    else:
        darkest = pixels.amax(-1, keepdim=True)
        torch.div(pixels, darkest.where(darkest > 0, torch.ones_like(darkest)), out=out)
