"""Batches of single drawings, without labels: what an autoencoder learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.tasks.characters.sampler import ALL, CharacterSampler


class DrawingSampler(CharacterSampler):
    """Samples drawings at random, uniformly over all of them, also with the quarter turns of their classes.

    The arguments are those of :class:`CharacterSampler` with the same names, but for ``images``, which are a tensor
    (classes, drawings, P, P) uint8. Raises TypeError or ValueError that name the argument.
    """

    def __init__(self, images: Tensor, *, rotate_classes: bool = False, augment: bool = False, seed: int = 0) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images: got {type(images).__name__}, need a tensor of torch.uint8")
        super().__init__(images, classes_per_episode=1, rotate_classes=rotate_classes, augment=augment, seed=seed)
        self._number = self._num_available * images.shape[1]

    def sample(self, batch_size: int, index: int, rows: slice = ALL) -> Tensor:
        """Batch number ``index`` (the training step, below 2**32): drawings (B, P * P) float32, 1 = full ink.

        rows: those of the B drawings to make, by default all. The result depends on the constructor's arguments,
        ``batch_size``, ``index`` and ``rows`` alone. Torch's generator stays as it was.
        """
        generator = self._generator(batch_size, index)
        chosen = torch.randint(self._number, (batch_size,), generator=generator, device=generator.device)
        return self._pixels(chosen, generator, rows).flatten(1) / 255
