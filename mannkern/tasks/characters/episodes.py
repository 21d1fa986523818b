"""One-shot episodes of drawn characters, and the sampler that makes them from a set of drawings."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.image_set import ImageSet, fewest, image_numbers, stacked
from mannkern.tasks.characters.labels import Labels, OneHotLabels, encode
from mannkern.tasks.characters.pixels import (
    IMAGE_SCALES,
    average_area,
    divide_by_scale,
    quarter_turns,
    rotate_and_shift,
)

MAX_ROTATION = math.pi / 16
"""Largest rotation of an augmented drawing, in radians; Santoro et al. (2016), section 4.1."""
MAX_SHIFT = 2.0
"""Largest shift of an augmented drawing along each axis, in pixels of 20: about 10 pixels of the original 105."""
MAX_SHIFT_OF_105 = 10.0
"""Largest shift of a drawing that is augmented before it is reduced, in pixels of 105, as in the paper."""
ALL = slice(None)
_PART = 32  # original drawings that are turned at a time, so that their pixels stay in the cache


class Episodes(NamedTuple):
    """A batch of B episodes of T steps.

    inputs:    (T, B, F) float32, ``[x_t, y_{t-1}]``: the flattened image and the encoded label of the step before;
               with ``queries_last`` ``[x_t, y_t]``, and zeros in place of the label of a query
    targets:   (T, B) int64, the number of the class of ``x_t`` within its episode, in [0, C)
    instances: (T, B) int64, 1 where a class appears for the first time, 2 for the second, ...
    symbols:   (T, B, K) int64, the label of that class, which the model has to answer; see ``labels.py``
    """

    inputs: Tensor
    targets: Tensor
    instances: Tensor
    symbols: Tensor


class CharacterSplit(NamedTuple):
    """Drawings of characters, with different classes for training and for testing.

    train: (classes, drawings, 20, 20) uint8, 255 = full ink
    test:  (classes, drawings, 20, 20) uint8, 255 = full ink
    """

    train: Tensor
    test: Tensor


class CharacterSampler:
    """Base class of the samplers: it holds the drawings, draws the classes of an episode and augments drawings.

    images:              (classes, drawings, P, P) uint8, 255 = full ink; episodes are made on its device; or an
                         ``ImageSet``, whose images may be rectangular or in colour, and more of one class than another
    classes_per_episode: C
    rotate_classes:      every class counts as four, one for each quarter turn
    augment:             turns every drawing by up to ``MAX_ROTATION`` and shifts it by up to ``MAX_SHIFT`` pixels, both
                         uniform; pixels are interpolated bilinearly, and white outside the frame
    seed:                at least 0; each seed gives other episodes
    side:                default P; a smaller one reduces every drawing by area averaging, after it was augmented
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
        labels = uniform(generator, *shape).argsort(1)
        if self._counts is not None:
            return labels, image_numbers(self._counts, classes, shown, generator)
        num_drawings = self._images.shape[1]
        drawings = uniform(generator, *shape, num_drawings).argsort(2)[..., :shown]
        return labels, classes.unsqueeze(2) * num_drawings + drawings

    def _pixels(self, chosen: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        """Numbers of drawings (...) -> pixels (n, side, side) in [0, 255], augmented if the sampler augments.

        own: which of the drawings; the draws for the others are made too, so that they do not depend on it.
        Behind the numbers of the drawings as they are come those of the same turned by one quarter, two and three.
        """
        number, chosen = chosen.numel(), chosen.flatten()[own]
        drawings = self._images.flatten(0, 1)
        pixels = drawings.index_select(0, chosen % len(drawings))
        if self._turns:
            pixels = quarter_turns(pixels, chosen // len(drawings))
        if not self._augment:
            return self._reduced(pixels)
        angles = ((2 * uniform(generator, number) - 1) * MAX_ROTATION)[own]
        shifts = ((2 * uniform(generator, number, 2) - 1) * self._max_shift)[own]
        if not self._reduces:
            return rotate_and_shift(pixels.float(), angles, shifts)
        parts = zip(pixels.split(_PART), angles.split(_PART), shifts.split(_PART), strict=True)
        return torch.cat([self._reduced(rotate_and_shift(x.float(), turn, by)) for x, turn, by in parts])

    def _reduced(self, pixels: Tensor) -> Tensor:
        """Pixels (n, P, P) -> (n, side, side)."""
        return average_area(pixels, self._side) if self._reduces else pixels


class EpisodeSampler(CharacterSampler):
    """Samples one-shot classification episodes (Santoro et al. 2016, sections 2 and 4.1).

    An episode draws C different classes, shows ``length / C`` different drawings of each in shuffled order, and numbers
    the classes 0..C-1 in shuffled order, so that a label means nothing beyond its episode.

    length:   T, a multiple of C, default 50: ten drawings of each of five classes, as in the paper
    balanced: False shows T random different drawings of the C classes instead; T may be any number up to that of their
              drawings, such as the paper's 100 drawings of 15 classes, some classes with ten drawings
    queries_last: True is the form of courses (CS330's homework): first K = T / C - 1 drawings of each class in shuffled
              order, each with its label at the same step, then one query of each, in shuffled order and without label
    labels:   the form of the labels, default one-hot
    image_scale: "255" (default) keeps thin strokes pale; "maximum" divides each drawing by its darkest pixel, as the
              replications do, so that every drawing has a pixel of 1. A drawing without ink stays 0

    The other arguments are :class:`CharacterSampler`'s; the paper augments its training set and turns its classes.
    Attributes: ``num_classes`` C, ``length`` T, ``label_size`` (logits of an answer), ``input_size`` F, the pixels of
    an image and ``label_size``, ``answers``, the slice of the steps at which an answer is due: all, or the queries'.
    Raises TypeError or ValueError that name the argument.
    """

    def __init__(
        self,
        images: Tensor | ImageSet,
        *,
        classes_per_episode: int = 5,
        length: int = 50,
        balanced: bool = True,
        queries_last: bool = False,
        rotate_classes: bool = False,
        augment: bool = False,
        seed: int = 0,
        labels: Labels = OneHotLabels(),  # noqa: B008 (it has no state)
        image_scale: str = "255",
        side: int | None = None,
        max_shift: float = MAX_SHIFT,
    ) -> None:
        super().__init__(
            images,
            classes_per_episode=classes_per_episode,
            rotate_classes=rotate_classes,
            augment=augment,
            seed=seed,
            side=side,
            max_shift=max_shift,
        )
        check_integer("length", length, 1)
        if balanced and length % classes_per_episode:
            raise ValueError(
                f"length: got {length}, need a multiple of classes_per_episode = {classes_per_episode} where balanced"
            )
        if queries_last and not (balanced and length >= 2 * classes_per_episode):
            raise ValueError(
                f"queries_last: got {length} steps, balanced {balanced}, need balanced episodes of at least "
                f"2 * classes_per_episode = {2 * classes_per_episode} steps, a drawing and a query of each class"
            )
        if length > self._fewest * classes_per_episode:
            raise ValueError(
                f"length: got {length}, need at most {self._fewest * classes_per_episode}, "
                f"for a class has {self._fewest} drawings"
            )
        if image_scale not in IMAGE_SCALES:
            raise ValueError(f"image_scale: got {image_scale!r}, need one of {', '.join(map(repr, IMAGE_SCALES))}")
        self.label_size = labels.size(classes_per_episode)
        self.input_size = self._features + self.label_size
        self.length = length
        self._shown = length // classes_per_episode if balanced else self._fewest
        self.answers = slice(length - classes_per_episode if queries_last else 0, length)
        self._labels = labels
        self._image_scale = image_scale

    def sample(self, batch_size: int, index: int, rows: slice = ALL) -> Episodes:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 episodes.

        rows: those of the B episodes to make, by default all; the others cost next to nothing. The result depends on
        the constructor's arguments, ``batch_size``, ``index`` and ``rows`` alone, so a resumed training sees the
        episodes of an unbroken one. Torch's generator stays as it was.
        """
        generator = self._generator(batch_size, index)
        C, T, B, P = self.num_classes, self.length, batch_size, self._features
        labels, drawings = self._draw(B, self._shown, generator)
        order = self._order(B, generator)
        chosen = drawings.flatten(1).gather(1, order).T
        own = torch.arange(T * B, device=chosen.device).view(T, B)[:, rows]
        all_targets = labels.gather(1, order // self._shown).T
        targets, B = all_targets[:, rows].contiguous(), own.shape[1]
        shown = F.one_hot(targets, C).cumsum(0)
        instances = shown.gather(2, targets[..., None])[..., 0]

        pixels = self._pixels(chosen, generator, own.flatten())
        inputs = torch.empty(T, B, self.input_size, device=pixels.device)
        divide_by_scale(pixels.reshape(T, B, P), self._image_scale, inputs[..., :P])
        inputs[:1, :, P:] = 0
        symbols = self._labels.draw(all_targets, C, generator)[:, rows].contiguous()
        encoded = inputs[..., P:]
        if self.answers.start:
            encoded[: self.answers.start] = encode(symbols[: self.answers.start], self.label_size)
            encoded[self.answers] = 0
        else:
            encoded[1:] = encode(symbols[:-1], self.label_size)
        return Episodes(inputs, targets, instances, symbols)

    def _order(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """(B, T) int64: which drawing a step shows, out of ``_shown`` of the first class, then those of the second."""
        C, shown = self.num_classes, self._shown
        if not self.answers.start:
            return uniform(generator, batch_size, C * shown).argsort(1)[:, : self.length]
        support = uniform(generator, batch_size, C * (shown - 1)).argsort(1)
        support = support + support // (shown - 1)  # leaves out the last drawing of each class
        queries = uniform(generator, batch_size, C).argsort(1) * shown + shown - 1
        return torch.cat((support, queries), 1)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers in [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
