"""The digest of images, by which a run knows whether it resumes on those that it began with."""

from __future__ import annotations

import torch

from mannkern.tasks.characters.image_set import ImageSet, digest


def test_a_digest_is_of_the_numbers_their_order_and_their_shape() -> None:
    one, other = torch.arange(8, dtype=torch.uint8).view(2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
    first = digest((one, other))
    assert digest((one.clone(), other.clone())) == first
    assert digest((one.mT.contiguous().mT, other)) == first, "however it lies in memory"
    changed = [(other, one), (one, other[:0]), (one.flip(0), other), (one.view(2, 4), other), (one.float(), other)]
    assert len({first, *map(digest, changed)}) == 6
    counts = torch.tensor([1, 1])
    assert digest([ImageSet(one, counts)]) != digest([ImageSet(one, counts + 1)]), "classes of other sizes"
