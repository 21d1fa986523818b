"""Few-shot episodes: support sets and queries of other drawings, labels by class, and nothing but the arguments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mannkern.tasks.characters.few_shot import FewShotEpisodes, FewShotSampler


def coded_images(classes: int, drawings: int = 20, side: int = 4) -> Tensor:
    """Images that tell what they are: the first pixel is the class, the second the drawing, the third is 255."""
    images = torch.zeros(classes, drawings, side, side, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.arange(classes)[:, None]
    images[:, :, 0, 1] = torch.arange(drawings)
    images[:, :, 0, 2] = 255
    return images


def decode(images: Tensor) -> tuple[Tensor, Tensor]:
    """The class and the drawing of each image."""
    code = (images[..., 0, :2] * 255).round().long()
    return code[..., 0], code[..., 1]


def test_one_class_by_hand() -> None:
    """Two drawings of one pixel, black and white: one is the support set, the other is the query, both of class 0."""
    images = torch.tensor([255, 0], dtype=torch.uint8).view(1, 2, 1, 1)
    support, labels, queries, targets = FewShotSampler(images, classes_per_episode=1, queries=1).sample(1, 0)
    assert sorted([support.item(), queries.item()]) == [0, 1]
    assert (labels.item(), targets.item()) == (0, 0)


@pytest.mark.parametrize("augment", [False, True])
def test_form(augment: bool) -> None:
    episodes = FewShotSampler(coded_images(30, side=20), shots=2, queries=3, augment=augment).sample(7, 0)
    assert episodes.support.shape == (7, 10, 20, 20)
    assert episodes.queries.shape == (7, 15, 20, 20)
    assert (episodes.labels.shape, episodes.targets.shape) == ((7, 10), (7, 15))
    assert episodes.support.dtype == episodes.queries.dtype == torch.float32
    assert episodes.labels.dtype == episodes.targets.dtype == torch.int64
    assert all(tensor.is_contiguous() for tensor in episodes)
    assert episodes.support.min() == 0
    assert episodes.support.max() == 1 or augment


@settings(deadline=None, max_examples=30)
@given(
    classes=st.integers(1, 6),
    spare=st.integers(0, 5),
    shots=st.integers(1, 4),
    queries=st.integers(1, 4),
    batch=st.integers(0, 9),
    index=st.integers(0, 2**32 - 1),
)
def test_rules_of_an_episode(classes: int, spare: int, shots: int, queries: int, batch: int, index: int) -> None:
    images = coded_images(classes + spare, drawings=8)
    sampler = FewShotSampler(images, classes_per_episode=classes, shots=shots, queries=queries)
    episodes = sampler.sample(batch, index)
    assert len(episodes.support) == batch
    for support, labels, asked, targets in zip(*episodes, strict=True):
        (which, drawing), (which_asked, drawing_asked) = decode(support), decode(asked)
        label_of = dict(zip(which.tolist(), labels.tolist(), strict=True))
        assert sorted(label_of.values()) == list(range(classes)), "C different classes, each with a label of its own"
        assert [label_of[c] for c in which.tolist()] == labels.tolist()
        assert [label_of[c] for c in which_asked.tolist()] == targets.tolist()
        assert labels.bincount().tolist() == [shots] * classes
        assert targets.bincount().tolist() == [queries] * classes
        shown = set(zip(which.tolist(), drawing.tolist(), strict=True))
        others = set(zip(which_asked.tolist(), drawing_asked.tolist(), strict=True))
        assert (len(shown), len(others)) == (classes * shots, classes * queries), "no drawing twice"
        assert not shown & others, "no query is in the support set"


def test_everything_is_drawn_uniformly() -> None:
    sampler = FewShotSampler(coded_images(8), classes_per_episode=4, shots=2, queries=2)
    episodes = sampler.sample(2000, 0)
    for images, labels in ((episodes.support, episodes.labels), (episodes.queries, episodes.targets)):
        which, drawing = decode(images)
        assert torch.allclose(which.flatten().bincount() / which.numel(), torch.tensor(1 / 8), atol=0.01)
        assert torch.allclose(drawing.flatten().bincount() / which.numel(), torch.tensor(1 / 20), atol=0.01)
        for place in (0, 7):
            joint = (which[:, place] * 4 + labels[:, place]).bincount(minlength=32) / 2000
            assert torch.allclose(joint, torch.tensor(1 / 32), atol=0.02), "a class has no label and no place"


def same(one: FewShotEpisodes, other: FewShotEpisodes) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augment", [False, True])
def test_a_pure_function_of_its_arguments(augment: bool) -> None:
    def sampler(seed: int = 0) -> FewShotSampler:
        return FewShotSampler(coded_images(30), rotate_classes=True, augment=augment, seed=seed)

    one, other = sampler(), sampler()
    first = one.sample(4, 17)
    other.sample(4, 3)
    state = torch.get_rng_state()
    assert same(first, other.sample(4, 17))
    assert torch.equal(torch.get_rng_state(), state)
    for episodes in (one.sample(4, 18), sampler(seed=1).sample(4, 17)):
        assert not torch.equal(episodes.labels, first.labels)
        assert not torch.equal(episodes.support, first.support)


def test_quarter_turns_are_classes_of_their_own() -> None:
    images = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    images[:, :, 0, 0] = 255  # a corner: where it is tells the turn
    episodes = FewShotSampler(images, classes_per_episode=4, rotate_classes=True, queries=3).sample(5, 0)
    corner = episodes.support.flatten(2).argmax(2)
    assert {tuple(sorted(row)) for row in corner.tolist()} == {(0, 3, 12, 15)}
    assert torch.equal(corner.gather(1, episodes.labels.argsort(1)).gather(1, episodes.targets), asked_corner(episodes))


def asked_corner(episodes: FewShotEpisodes) -> Tensor:
    return episodes.queries.flatten(2).argmax(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "shots: got 0, need at least 1"),
        ({"queries": 0}, "queries: got 0, need at least 1"),
        ({"shots": 4, "queries": 5}, "shots and queries: got 4 and 5, need at most 8 together"),
        ({"classes_per_episode": 7}, "classes_per_episode: got 7, need at most 6"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        FewShotSampler(coded_images(6, drawings=8), **options)


def test_types_that_cannot_be() -> None:
    with pytest.raises(TypeError, match=r"^images: got torch.float32"):
        FewShotSampler(coded_images(6).float())
    with pytest.raises(TypeError, match=r"^shots: got float, need an integer"):
        FewShotSampler(coded_images(6), shots=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^batch_size: got -1"):
        FewShotSampler(coded_images(6)).sample(-1, 0)
    with pytest.raises(ValueError, match=r"^index: got -1"):
        FewShotSampler(coded_images(6)).sample(1, -1)
