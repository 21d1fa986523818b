"""Few-shot episodes of drawn characters: a support set with labels, and queries to label."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.sampler import ALL, MAX_SHIFT, CharacterSampler


class FewShotEpisodes(NamedTuple):
    """A batch of B episodes of C classes: K drawings of each with their labels, and Q other drawings to label.

    support: (B, C*K, P, P) float32, 1 = ink; (B, C*K, channels, height, width) of images in colour
    labels:  (B, C*K) int64 in [0, C)
    queries: (B, Q, P, P) float32, 1 = ink
    targets: (B, Q) int64 in [0, C)
    """

    support: Tensor
    labels: Tensor
    queries: Tensor
    targets: Tensor


class FewShotSampler(CharacterSampler):
    """Samples C-way K-shot episodes (Vinyals et al. 2016, section 4.1).

    An episode draws C different classes, K drawings of each for the support set and others for the queries, shuffles
    both, and gives the classes the labels 0..C-1 in shuffled order.

    shots:   K, drawings of each class in the support set, default 1
    queries: queries of each class, so that Q = C * ``queries``, default 5

    The other arguments are those of :class:`CharacterSampler` with the same names. Raises TypeError or ValueError that
    name the argument.

    >>> drawings = torch.randint(0, 256, (100, 20, 20, 20), dtype=torch.uint8)  # 20 of each of 100 characters
    >>> episodes = mannkern.tasks.FewShotSampler(drawings, shots=2).sample(batch_size=16, index=0)
    >>> episodes.support.shape, episodes.queries.shape
    (torch.Size([16, 10, 20, 20]), torch.Size([16, 25, 20, 20]))
    """

    def __init__(
        self,
        images: Tensor | ImageSet,
        *,
        classes_per_episode: int = 5,
        shots: int = 1,
        queries: int = 5,
        rotate_classes: bool = False,
        augment: bool = False,
        seed: int = 0,
        max_shift: float = MAX_SHIFT,
    ) -> None:
        super().__init__(
            images,
            classes_per_episode=classes_per_episode,
            rotate_classes=rotate_classes,
            augment=augment,
            seed=seed,
            max_shift=max_shift,
        )
        check_integer("shots", shots, 1)
        check_integer("queries", queries, 1)
        if shots + queries > self._fewest:
            raise ValueError(
                f"shots and queries: got {shots} and {queries}, need at most {self._fewest} together, "
                "the drawings of a class"
            )
        self.shots = shots
        self.queries = queries

    def sample(self, batch_size: int, index: int, rows: slice = ALL) -> FewShotEpisodes:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 episodes.

        rows: those of the B episodes to make, by default all; the others cost next to nothing. The result depends on
        the constructor's arguments, ``batch_size``, ``index`` and ``rows`` alone. Torch's generator stays as it was.
        """
        generator = self._generator(batch_size, index)
        B, C, K, each = batch_size, self.num_classes, self.shots, self.queries
        names, drawings = self._draw(B, K + each, generator)
        chosen, labels = [], []
        for part, count in ((drawings[..., :K], K), (drawings[..., K:], each)):
            order = seeds.uniform(generator, B, C * count).argsort(1)
            chosen.append(part.reshape(B, C * count).gather(1, order))
            labels.append(names.gather(1, order // count))
        numbers = torch.cat(chosen, 1)
        own = torch.arange(numbers.numel(), device=numbers.device).view(numbers.shape)[rows]
        pixels = self._pixels(numbers, generator, own.flatten())
        images = (pixels.float() / 255).view(*own.shape, *pixels.shape[1:])
        support, queries = images.split([C * K, C * each], 1)
        return FewShotEpisodes(support.contiguous(), labels[0][rows], queries.contiguous(), labels[1][rows])
