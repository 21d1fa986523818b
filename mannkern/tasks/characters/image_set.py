"""Images of classes that may differ in number, of any shape: what the samplers take beside equal stacks of drawings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.tasks import seeds


class ImageSet(NamedTuple):
    """The images of all classes, those of the first class first.

    pixels: (n, height, width), or (n, channels, height, width), uint8; 0 is what lies outside of the frame
    counts: (classes,) int64, how many images each class has, at least 1
    """

    pixels: Tensor
    counts: Tensor


def fewest(images: Tensor | ImageSet) -> int:
    """How many images the class with the fewest of them has."""
    if isinstance(images, ImageSet):
        return int(images.counts.min()) if len(images.counts) else 0
    return images.shape[1] if isinstance(images, Tensor) and images.dim() > 1 else 0


def digest(parts: Iterable[Tensor | ImageSet]) -> str:
    """SHA-256 of the numbers of ``parts``, their shapes and their order: a resumed run needs the same images."""
    result = hashlib.sha256()
    for part in parts:
        for tensor in (part,) if isinstance(part, Tensor) else part:
            result.update(f"{tensor.dtype} {tuple(tensor.shape)}\0".encode())
            result.update(tensor.contiguous().numpy().data)
    return result.hexdigest()


def stacked(images: ImageSet, side: int | None, rotate_classes: bool) -> Tensor:
    """The pixels as one stack (1, n, ...). Raises ``TypeError`` or ``ValueError`` for what the samplers cannot use."""
    pixels, counts = images
    if pixels.dtype != torch.uint8:
        raise TypeError(f"images: got {pixels.dtype}, need a tensor of torch.uint8")
    shape = tuple(pixels.shape)
    if (
        len(shape) not in (3, 4)
        or 0 in shape
        or not len(counts)
        or int(counts.min()) < 1
        or counts.sum() != len(pixels)
    ):
        raise ValueError(
            f"images: got shape {shape} for {int(counts.sum())} images of {len(counts)} classes, need (n, height, "
            "width) or (n, channels, height, width) for n images, at least one of each class"
        )
    if side is not None and (len(shape) != 3 or shape[1] != shape[2]):
        raise ValueError(f"side: got {side} for images of shape {shape[1:]}, need None, or grey squares")
    if rotate_classes and shape[-1] != shape[-2]:
        raise ValueError(f"rotate_classes: got images of {shape[-2]} x {shape[-1]} pixels, need squares")
    return pixels.unsqueeze(0)


def image_numbers(counts: Tensor, classes: Tensor, shown: int, generator: torch.Generator) -> Tensor:
    """Numbers (B, C, shown) of different images of each of ``classes`` (B, C).

    counts (classes,): as in an ``ImageSet``. Behind these classes come their quarter turns, and behind the images as
    they are the same turned by one quarter, two and three.
    """
    counts = counts.to(classes.device)
    first = counts.cumsum(0) - counts
    of, quarter = classes % len(counts), classes // len(counts)
    start = quarter * int(counts.sum()) + first[of]
    return start.unsqueeze(-1) + seeds.different_below(counts[of], shown, generator)
