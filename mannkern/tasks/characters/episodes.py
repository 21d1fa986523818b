"""One-shot episodes of drawn characters, and the sampler that makes them from a set of drawings."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.labels import Labels, OneHotLabels, encode
from mannkern.tasks.characters.pixels import IMAGE_SCALES, divide_by_scale
from mannkern.tasks.characters.sampler import ALL, MAX_SHIFT, CharacterSampler


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


class EpisodeSampler(CharacterSampler):
    """Samples one-shot classification episodes (Santoro et al. 2016, sections 2 and 4.1).

    An episode draws C different classes, shows ``length / C`` different drawings of each in shuffled order, and numbers
    the classes 0..C-1 in shuffled order, so that a label means nothing beyond its episode.

    images:   (classes, drawings, P, P) uint8, 255 = full ink, such as ``glyphs.load().train``; episodes are made on its
              device
    classes_per_episode: C, default 5
    length:   T, a multiple of C, default 50: ten drawings of each of five classes
    balanced: False shows T random different drawings of the C classes instead, as the paper does; T may be any number
              up to that of their drawings, such as the paper's 100 drawings of 15 classes
    queries_last: True gives N-way K-shot episodes: first K = T / C - 1 drawings of each class in shuffled order, each
              with its label at the same step, then one query of each, in shuffled order and without label
    labels:   the form of the labels, default one-hot
    image_scale: "255" (default) keeps thin strokes pale; "maximum" divides each drawing by its darkest pixel, as the
              replications do, so that every drawing has a pixel of 1. A drawing without ink stays 0

    rotate_classes: True makes every class four, one for each quarter turn, as the paper does in training
    augment:  True turns every drawing by up to pi / 16 and shifts it by up to ``max_shift`` pixels, as the paper does
              in training
    seed:     default 0; each seed gives other episodes
    side:     reduces every drawing to so many pixels along a side, by area, after it was augmented; default P
    max_shift: in pixels of P, default 2

    Attributes: ``num_classes`` C, ``length`` T, ``label_size`` (logits of an answer), ``input_size`` F, the pixels of
    an image and ``label_size``, ``answers``, the slice of the steps at which an answer is due: all, or the queries'.
    Raises TypeError or ValueError that name the argument.

    >>> drawings = torch.randint(0, 256, (100, 20, 20, 20), dtype=torch.uint8)  # 20 of each of 100 characters
    >>> sampler = mannkern.tasks.EpisodeSampler(drawings, image_scale="maximum")
    >>> sampler.sample(batch_size=16, index=0).inputs.shape  # the first step's batch: 50 steps, 16 episodes
    torch.Size([50, 16, 405])
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
        inputs = torch.empty(T, B, self.input_size, dtype=torch.float32, device=pixels.device)
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
            return seeds.uniform(generator, batch_size, C * shown).argsort(1)[:, : self.length]
        support = seeds.uniform(generator, batch_size, C * (shown - 1)).argsort(1)
        support = support + support // (shown - 1)  # leaves out the last drawing of each class
        queries = seeds.uniform(generator, batch_size, C).argsort(1) * shown + shown - 1
        return torch.cat((support, queries), 1)
