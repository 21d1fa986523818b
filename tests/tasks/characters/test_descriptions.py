"""Descriptions of characters by hand, and zero-shot episodes: no drawing that is described is a query."""

from __future__ import annotations

import pytest
import torch

from mannkern.tasks import ZeroShotSampler, omniglot
from mannkern.tasks.characters.descriptions import ATTRIBUTES, DESCRIBED, attributes
from tests.tasks.characters.test_few_shot import coded_images, decode


def test_a_ring_and_a_bar_by_hand() -> None:
    """A ring is one piece with one hole, 1 - 1 = 0; two bars are two pieces. A middle row crosses a ring twice."""
    images = torch.zeros(3, 20, 20, dtype=torch.uint8)
    images[0, 4:16, 4:16] = 255
    images[0, 7:13, 7:13] = 0
    images[1, :, 4:6] = images[1, :, 14:16] = 255
    images[2] = images[1].T
    found = attributes(images)
    assert found.shape == (3, ATTRIBUTES)
    ink, right, across, down, along, euler = found[:, :6].T.tolist()
    assert ink == pytest.approx([(144 - 36) / 400, 0.2, 0.2])
    assert right == pytest.approx([0.5] * 3)
    assert down == pytest.approx([0.5] * 3)
    assert across[1] == pytest.approx(along[2])
    assert euler == [0, 2, 2]
    rows, columns = found[:, 6:11], found[:, 11:16]
    assert rows[0].tolist() == [0, 1, 2, 1, 0]
    assert rows[1].tolist() == columns[2].tolist() == [2] * 5
    shares = found[:, 16:]
    assert shares.sum(1).tolist() == pytest.approx([1, 1, 1])
    assert shares[1].tolist() == pytest.approx([1, 0, 0, 0]), "edges of upright bars point right"
    assert shares[2].tolist() == pytest.approx([0, 0, 1, 0]), "those of level bars down"
    diagonal = torch.zeros(1, 4, 4, dtype=torch.uint8)
    diagonal[0, [0, 1], [0, 1]] = 255
    assert attributes(diagonal)[0, 5] == 1, "pixels that touch at a corner are one piece"
    assert attributes(images.view(3, 1, 20, 20)).shape == (3, 1, ATTRIBUTES)


@pytest.mark.parametrize("rotate", [False, True])
def test_form(rotate: bool) -> None:
    images = coded_images(30, side=20)
    alphabets = torch.arange(30) % 4
    sampler = ZeroShotSampler(images, alphabets=alphabets, num_alphabets=4, queries=3, rotate_classes=rotate)
    episodes = sampler.sample(7, 0)
    assert sampler.description_size == ATTRIBUTES + 4
    assert episodes.support.shape == (7, 5, ATTRIBUTES + 4)
    assert episodes.queries.shape == (7, 15, 20, 20)
    assert all(bool(tensor.isfinite().all()) for tensor in episodes)
    assert episodes.labels.sort(1).values.tolist() == [[0, 1, 2, 3, 4]] * 7
    assert episodes.targets.sort(1).values.tolist() == [[0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3] * 7


def test_a_query_has_the_label_of_the_description_of_its_class() -> None:
    """Class c has alphabet c, so the description tells the class; drawings below ``DESCRIBED`` are never shown."""
    sampler = ZeroShotSampler(coded_images(9, side=20), alphabets=torch.arange(9), num_alphabets=9, queries=4)
    support, labels, queries, targets = sampler.sample(50, 3)
    described = support[..., ATTRIBUTES:].argmax(-1)  # (B, C)
    classes, drawings = decode(queries)
    assert drawings.min() == DESCRIBED
    assert drawings.max() == 19
    for b in range(50):
        names = dict(zip(described[b].tolist(), labels[b].tolist(), strict=True))
        assert [names[int(c)] for c in classes[b]] == targets[b].tolist()


def test_a_test_describes_a_class_as_training_does() -> None:
    """In the units of training a class has one description, whichever other classes are beside it."""
    images = coded_images(9, side=20)
    training = ZeroShotSampler(images, rotate_classes=True)
    test = ZeroShotSampler(images[:5], units=training.units)
    assert torch.equal(test._descriptions, training._descriptions[:5])
    alone = ZeroShotSampler(images[:5])
    assert not torch.allclose(alone._descriptions, test._descriptions, atol=0.1)


def test_alphabets_are_omniglots() -> None:
    paper, official = omniglot.alphabets(), omniglot.alphabets("alphabets")
    assert (len(paper.train), len(paper.test)) == (1200, 423)
    assert len(official.train.unique()) == 30
    assert len(official.test.unique()) == 20
    assert not set(official.train.tolist()) & set(official.test.tolist())
    assert torch.equal(torch.cat(paper).bincount(), torch.tensor(omniglot.ALPHABETS))
    assert len(paper.train.unique()) == 50


def test_few_sorted_characters_of_the_test_are_of_an_alphabet_of_training() -> None:
    """Four of 423; the paper's split draws all of them from such alphabets."""
    split = omniglot.alphabets("sorted")
    assert (len(split.train), len(split.test)) == (1200, 423)
    assert torch.isin(split.test, split.train).sum() == 4


def test_too_few_drawings() -> None:
    with pytest.raises(ValueError, match=r"^queries: got 11, need at most 10"):
        ZeroShotSampler(coded_images(9, side=20), queries=11)
