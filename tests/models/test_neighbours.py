"""Nearest neighbours in pixels, against a search in Python."""

import pytest
import torch
from torch import Tensor

from mannkern.models import NearestNeighbours
from mannkern.tasks.characters.episodes import EpisodeSampler
from mannkern.tasks.characters.labels import Labels, OneHotLabels, StringLabels, answered_right


def of_labels(drawings: list[list[float]], labels: list[int], num_classes: int) -> Tensor:
    """One episode (T, 1, F) of drawings with the one-hot label of the drawing before."""
    given = torch.zeros(len(drawings), num_classes)
    for t, label in enumerate(labels[:-1]):
        given[t + 1, label] = 1
    return torch.cat([torch.tensor(drawings), given], 1).unsqueeze(1)


def searched(inputs: Tensor, label_size: int, count: int) -> Tensor:
    """The same, step by step over lists."""
    T, B, _ = inputs.shape
    answers = torch.zeros(T, B, label_size)
    for b in range(B):
        pixels, labels = inputs[:, b, :-label_size], inputs[1:, b, -label_size:]
        for t in range(1, T):
            far = [float((pixels[t] - pixels[s]).square().sum()) for s in range(t)]
            near = [tuple(labels[s].tolist()) for s in sorted(range(t), key=far.__getitem__)[:count]]
            answers[t, b] = torch.tensor(max(near, key=near.count))
    return answers


def test_by_hand() -> None:
    inputs = of_labels([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [0.9, 0.0], [2.0, 0.0]], [0, 1, 1, 2, 0], 3)
    one, three = (NearestNeighbours(3, count=k)(inputs)[:, 0].tolist() for k in (1, 3))
    assert one == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    # of the last drawing's nearest, 1, 3 and 0, no label comes twice: the nearest's wins
    assert three == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert NearestNeighbours(3, count=4)(inputs)[4, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 100])
@pytest.mark.parametrize("labels", [OneHotLabels(), StringLabels()])
def test_it_equals_a_search(labels: Labels, count: int) -> None:
    images = torch.randint(256, (9, 6, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sampler = EpisodeSampler(images, classes_per_episode=3, length=18, labels=labels)
    inputs = sampler.sample(6, 0).inputs
    found = NearestNeighbours(sampler.label_size, count=count)(inputs)
    assert torch.equal(found, searched(inputs, sampler.label_size, count))


def test_equally_far_and_equally_frequent_the_earlier_wins() -> None:
    inputs = of_labels([[0.0], [2.0], [1.0]], [1, 0, 0], 2)
    for count in (1, 2):
        assert NearestNeighbours(2, count=count)(inputs)[2, 0].tolist() == [0, 1]


def test_the_future_changes_nothing() -> None:
    inputs = torch.rand(8, 3, 9 + 4)
    changed = inputs.clone()
    changed[5:] = torch.rand(3, 3, 13)
    model = NearestNeighbours(4, count=3)
    assert torch.equal(model(inputs)[:5], model(changed)[:5])


def test_drawings_that_are_alike_are_known_at_once() -> None:
    images = torch.zeros(12, 20, 6, 6, dtype=torch.uint8).flatten(2)
    images[torch.arange(12), :, torch.arange(12)] = 255
    sampler = EpisodeSampler(images.view(12, 20, 6, 6), labels=StringLabels())
    episodes = sampler.sample(20, 0)
    right = answered_right(NearestNeighbours(25)(episodes.inputs), episodes.symbols)
    assert torch.equal(right, episodes.instances > 1), "right but for the first of a class, which it cannot know"


@pytest.mark.parametrize(("T", "B"), [(1, 3), (2, 0), (0, 2)])
def test_small_episodes(T: int, B: int) -> None:
    logits = NearestNeighbours(4)(torch.rand(T, B, 13))
    assert logits.shape == (T, B, 4)
    assert not logits[:1].any()


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="count: got 0, need at least 1"):
        NearestNeighbours(5, count=0)
    with pytest.raises(ValueError, match="label_size: got 0"):
        NearestNeighbours(0)
