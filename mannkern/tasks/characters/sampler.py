"""What the samplers of drawn characters share: they hold the drawings, draw classes and augment."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.image_set import ImageSet, fewest, image_numbers, stacked
from mannkern.tasks.characters.ink import Ink
from mannkern.tasks.characters.pixels import average_area, quarter_turns, rotate_and_shift

MAX_ROTATION = math.pi / 16
"""Largest rotation of an augmented drawing, in radians; Santoro et al. (2016), section 4.1."""
MAX_SHIFT = 2.0
"""Largest shift of an augmented drawing along each axis, in pixels of 20: about 10 pixels of the original 105."""
MAX_SHIFT_OF_105 = 10.0
"""Largest shift of a drawing that is augmented before it is reduced, in pixels of 105, as in the paper."""
ALL = slice(None)
_PART = 128  # drawings whose ink is moved at a time, so that its points stay in the cache


class CharacterSampler:
    """Base class of the samplers: it holds the drawings, draws the classes of an episode and augments drawings.

    images:              (classes, drawings, P, P) uint8, 255 = full ink; episodes are made on its device; or an
                         ``ImageSet``, whose images may be rectangular or in colour, and more of one class than another
    classes_per_episode: C
    rotate_classes:      every class counts as four, one for each quarter turn
    augment:             turns every drawing by up to ``MAX_ROTATION`` and shifts it by up to ``MAX_SHIFT`` pixels, both
                         uniform; pixels are interpolated bilinearly, and white outside the frame
    seed:                at least 0; each seed gives other episodes
    side:                default P; a smaller one reduces every drawing by area averaging, after it was augmented, where
                         each pixel is moved as a square and none is interpolated (``Ink``)
    max_shift:           the largest shift, in pixels of P

    ``num_classes`` is C. Raises TypeError or ValueError that name the argument.
    """

    def __init__(
        self,
        images: Tensor | ImageSet,
        *,
        classes_per_episode: int,
        rotate_classes: bool,
        augment: bool,
        seed: int,
        side: int | None = None,
        max_shift: float = MAX_SHIFT,
    ) -> None:
        self._counts = images.counts if isinstance(images, ImageSet) else None
        self._fewest = fewest(images)
        if isinstance(images, ImageSet):
            images = stacked(images, side, rotate_classes)
        elif not isinstance(images, Tensor) or images.dtype != torch.uint8:
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"images: got {kind}, need a tensor of torch.uint8")
        elif images.dim() != 4 or images.shape[2] != images.shape[3] or images.shape[2] == 0:
            raise ValueError(f"images: got shape {tuple(images.shape)}, need (classes, drawings, P, P)")
        check_integer("classes_per_episode", classes_per_episode, 1)
        check_integer("seed", seed, 0)
        num_classes = len(images) if self._counts is None else len(self._counts)
        num_available = num_classes * (4 if rotate_classes else 1)
        if classes_per_episode > num_available:
            raise ValueError(f"classes_per_episode: got {classes_per_episode}, need at most {num_available} classes")
        if isinstance(max_shift, bool) or not isinstance(max_shift, (int, float)):
            raise TypeError(f"max_shift: got {type(max_shift).__name__}, need a number")
        if not 0 <= max_shift < math.inf:
            raise ValueError(f"max_shift: got {max_shift}, need a number of at least 0")
        side = images.shape[-1] if side is None else side
        check_integer("side", side, 1, images.shape[-1])
        self._reduces = side != images.shape[-1]
        self._turns = rotate_classes and self._reduces
        if rotate_classes and not self._reduces:  # small enough to keep all turns, not to turn each anew
            images = torch.cat([torch.rot90(images, quarter, (-2, -1)) for quarter in range(4)])
        self.num_classes = classes_per_episode
        self._num_available = num_available
        self._side = side
        self._features = side**2 if self._reduces else math.prod(images.shape[2:])
        self._max_shift = max_shift
        self._images = images.contiguous()
        self._augment = augment
        self._seed = seed

    def _generator(self, batch_size: int, index: int) -> torch.Generator:
        """The generator of batch ``index``. Raises TypeError or ValueError for an impossible batch."""
        check_integer("batch_size", batch_size, 0)
        check_integer("index", index, 0, 2**32 - 1)
        return seeds.generator(self._seed, index, self._images.device)

    def _draw(self, batch_size: int, shown: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Labels (B, C) of C different classes, and the numbers (B, C, shown) of different drawings of each."""
        shape = batch_size, self.num_classes
        classes = seeds.different(*shape, self._num_available, generator)
        labels = seeds.uniform(generator, *shape).argsort(1)
        if self._counts is not None:
            return labels, image_numbers(self._counts, classes, shown, generator)
        num_drawings = self._images.shape[1]
        drawings = seeds.uniform(generator, *shape, num_drawings).argsort(2)[..., :shown]
        return labels, classes.unsqueeze(2) * num_drawings + drawings

    def _pixels(self, chosen: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        """Numbers of drawings (...) -> pixels (n, side, side) in [0, 255], augmented if the sampler augments.

        own: which of the drawings; the draws for the others are made too, so that they do not depend on it.
        Behind the numbers of the drawings as they are come those of the same turned by one quarter, two and three.
        """
        number, chosen = chosen.numel(), chosen.flatten()[own]
        drawings = self._images.flatten(0, 1)
        drawing, quarters = chosen % len(drawings), chosen // len(drawings)
        if not self._augment:
            pixels = drawings.index_select(0, drawing)
            return self._reduced(quarter_turns(pixels, quarters) if self._turns else pixels)
        angles = ((2 * seeds.uniform(generator, number) - 1) * MAX_ROTATION)[own]
        shifts = ((2 * seeds.uniform(generator, number, 2) - 1) * self._max_shift)[own]
        if not self._reduces:
            return rotate_and_shift(drawings.index_select(0, drawing).float(), angles, shifts)
        angles = angles + quarters * (math.pi / 2)  # one turn costs less than two
        parts = zip(drawing.split(_PART), angles.split(_PART), shifts.split(_PART), strict=True)
        return torch.cat([self._ink.moved(*part, self._side) for part in parts])

    @cached_property
    def _ink(self) -> Ink:
        """All drawings as points, found when the first of them are to be moved."""
        return Ink(self._images.flatten(0, 1))

    def _reduced(self, pixels: Tensor) -> Tensor:
        """Pixels (n, P, P) -> (n, side, side)."""
        return average_area(pixels, self._side) if self._reduces else pixels
