"""Glyphs are reproducible, all different, and a one-shot problem worth learning."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from mannkern.tasks import glyphs
from mannkern.tasks.characters.episodes import CharacterSplit, EpisodeSampler


@pytest.fixture(scope="module")
def split() -> CharacterSplit:
    return glyphs.load(num_train=200, num_test=60)


def nearest_neighbour(images: Tensor, episodes: int = 3000) -> float:
    """Accuracy of one-shot classification among five classes by the distance of the pixels."""
    generator = torch.Generator().manual_seed(0)
    K, drawings = images.shape[:2]
    classes = torch.rand(episodes, K, generator=generator).argsort(1)[:, :5]
    pair = torch.rand(episodes, 5, drawings, generator=generator).argsort(2)
    x = images.reshape(K, drawings, -1).float()
    known, asked = x[classes, pair[..., 0]], x[classes, pair[..., 1]]
    return (torch.cdist(asked, known).argmin(2) == torch.arange(5)).float().mean().item()


def test_a_dot_by_hand() -> None:
    """All control points in the centre, a pen of 0.5: the four pixels around it, 0.71 away, get 255 (1 - 0.71) = 75."""
    strokes = torch.zeros(1, glyphs._STROKES, glyphs._CONTROLS, 2)
    image = glyphs._render(strokes, torch.tensor([0.5]))[0]
    assert image[9:11, 9:11].tolist() == [[75, 75], [75, 75]]
    assert image.sum() == 4 * 75


def test_form(split: CharacterSplit) -> None:
    assert split.train.shape == (200, 20, 20, 20)
    assert split.test.shape == (60, 20, 20, 20)
    assert split.train.dtype == split.test.dtype == torch.uint8
    assert glyphs.load(num_train=2, num_test=1, drawings=3).train.shape == (2, 3, 20, 20)
    EpisodeSampler(split.train, rotate_classes=True, augment=True).sample(2, 0)


def test_every_drawing_has_ink_and_paper(split: CharacterSplit) -> None:
    images = torch.cat(split)
    assert (images.amax((2, 3)) > 128).all()
    share = images.float().mean((2, 3)) / 255
    assert share.min() > 0.005
    assert share.max() < 0.3


def test_no_two_drawings_are_equal(split: CharacterSplit) -> None:
    images = torch.cat(split).flatten(0, 1).flatten(1)
    assert len(images.unique(dim=0)) == len(images)


def test_deterministic_by_seed(split: CharacterSplit) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = glyphs.load(num_train=200, num_test=60)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.train, split.train)
    assert torch.equal(again.test, split.test)
    assert not torch.equal(glyphs.load(num_train=200, num_test=60, seed=1).train, split.train)


def test_about_as_hard_as_omniglot(split: CharacterSplit) -> None:
    for images in split:
        assert 0.45 < nearest_neighbour(images) < 0.7, "Omniglot: 0.47; chance: 0.2"


def test_fast() -> None:
    start = time.process_time()
    glyphs.load(num_train=100, num_test=20)
    assert time.process_time() - start < 1, "a tenth of the default set"


@pytest.mark.parametrize("name", ["num_train", "num_test", "drawings"])
def test_bad_counts(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: got 0, need at least 1"):
        glyphs.load(**{name: 0})
    with pytest.raises(TypeError, match=f"{name}: got float, need an integer"):
        glyphs.load(**{name: 2.0})


def test_bad_seed() -> None:
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=f"seed: got {seed}"):
            glyphs.load(seed=seed)
