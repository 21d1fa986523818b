"""Drawings are turned, shifted and reduced as the paper does it, and stay as they were given."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.tasks.characters.descriptions import ZeroShotSampler
from mannkern.tasks.characters.episodes import EpisodeSampler
from mannkern.tasks.characters.pixels import rotate_and_shift
from tests.tasks.characters.coded import coded_images, decode


def test_quarter_turns_are_classes_of_their_own() -> None:
    images = torch.zeros(3, 4, 5, 5, dtype=torch.uint8)
    images[..., 0, 1] = torch.tensor([100, 150, 200], dtype=torch.uint8)[:, None]
    sampler = EpisodeSampler(images, classes_per_episode=12, length=24, rotate_classes=True)
    episodes = sampler.sample(3, 0)
    for b in range(3):
        shown = {(int(x.argmax()), round(float(x.max()) * 255)) for x in episodes.inputs[:, b, :25]}
        assert shown == {(place, ink) for place in (1, 9, 23, 15) for ink in (100, 150, 200)}
        for label in range(12):
            drawings = episodes.inputs[episodes.targets[:, b] == label, b, :25]
            assert len(drawings.unique(dim=0)) == 1, "every drawing of a class is turned alike"


def test_drawings_are_reduced_after_they_were_augmented() -> None:
    """A square of 4 x 4 pixels in a frame of 40 is shifted by whole pixels of 40, and its ink stays when reduced."""
    images = torch.zeros(5, 20, 40, 40, dtype=torch.uint8)
    images[:, :, 18:22, 18:22] = 255
    plain = EpisodeSampler(images, side=20)
    assert plain.input_size == 405
    drawing = plain.sample(1, 0).inputs[0, 0, :400].view(20, 20)
    assert torch.equal(drawing, torch.nn.functional.pad(torch.ones(2, 2), (9, 9, 9, 9)))
    sampler = EpisodeSampler(images, augment=True, rotate_classes=True, side=20, max_shift=10.0)
    x = sampler.sample(40, 0).inputs[..., :400].reshape(-1, 20, 20)
    assert torch.allclose(x.sum((1, 2)), torch.full((len(x),), 4.0), atol=0.05)
    at = torch.arange(20) - 9.5
    right = (x.sum(1) @ at) / x.sum((1, 2))
    assert 4.9 < right.abs().max() < 5.05, "10 pixels of 40 are 5 of 20"


def test_a_drawing_that_is_augmented_first_gets_the_quarter_turn_of_its_class() -> None:
    """A square in one quarter of the frame lies in the same quarter with and without augmentation."""
    images = torch.zeros(1, 20, 40, 40, dtype=torch.uint8)
    images[:, :, 6:12, 26:32] = 255
    quarters = []
    for augment in (False, True):
        sampler = EpisodeSampler(
            images, classes_per_episode=4, length=20, augment=augment, rotate_classes=True, side=20
        )
        x = sampler.sample(4, 0).inputs[..., :400].reshape(-1, 2, 10, 2, 10)
        quarters.append(x.sum((2, 4)).flatten(1).argmax(1))
    assert torch.equal(*quarters)
    assert len(quarters[0].unique()) == 4


def test_no_turn_without_being_asked() -> None:
    images = coded_images(5)
    which, drawing = decode(episodes := EpisodeSampler(images).sample(2, 0))
    assert torch.equal(episodes.inputs[..., :400], images[which, drawing].flatten(2).float() / 255)


def test_rotate_and_shift_by_whole_pixels_and_quarter_turns() -> None:
    images = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0, math.pi / 2, -math.pi / 2, math.pi])
    turned = torch.stack([torch.rot90(image, k) for image, k in zip(images, (0, 1, 3, 2))])
    assert torch.allclose(rotate_and_shift(images, angles, torch.zeros(4, 2)), turned, atol=1e-4)
    expected = torch.zeros(4, 20, 20)
    expected[:, :-1, 2:] = turned[:, 1:, :-2]
    assert torch.allclose(rotate_and_shift(images, angles, torch.tensor([[2.0, -1.0]] * 4)), expected, atol=1e-4)
    half = rotate_and_shift(images, torch.zeros(4), torch.tensor([[0.5, 0.0]] * 4))
    assert torch.allclose(half[..., 1:], (images[..., 1:] + images[..., :-1]) / 2, atol=1e-4)


def test_augmentation_is_small_and_another_for_every_drawing() -> None:
    """By up to 2 pixels of 20 along each axis, about the paper's 10 of 105, and by up to its pi / 16."""
    images = torch.zeros(5, 20, 20, 20, dtype=torch.uint8)
    images[..., 9:11, 4:16] = 255
    x = EpisodeSampler(images, augment=True).sample(40, 0).inputs[..., :400].reshape(-1, 20, 20)
    assert len(x.unique(dim=0)) == len(x)
    assert x.sum((1, 2)).sub(24).abs().max() < 0.5, "no ink is lost"
    at = torch.arange(20) - 9.5
    mass = x.sum((1, 2))
    right, down = (x.sum(1) @ at) / mass, (x.sum(2) @ at) / mass
    for shift in (right, down):
        assert 0.98 * 2 < shift.abs().max() < 2.05
        assert abs(shift.mean()) < 0.1
    across, along = at - right[:, None], at - down[:, None]
    tilt = torch.einsum("nyx,nx,ny->n", x, across, along) / torch.einsum("nyx,nx->n", x, across.square())
    assert 0.9 * math.pi / 16 < tilt.atan().abs().max() < math.pi / 16 + 0.01
    assert abs(tilt.mean()) < 0.01


def test_images_are_not_written_to() -> None:
    images = coded_images(6)
    before = images.clone()
    EpisodeSampler(images.transpose(2, 3), augment=True).sample(3, 0)
    assert torch.equal(images, before)


def test_sampling_takes_no_loop_over_images() -> None:
    sampler = EpisodeSampler(coded_images(50), augment=True)

    def fastest(batch_size: int) -> float:
        times = []
        for index in range(9):
            start = time.process_time()
            sampler.sample(batch_size, index)
            times.append(time.process_time() - start)
        return min(times)

    assert fastest(64) < 0.064, "a millisecond of an episode: several times what it takes, a tenth of a loop"


@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), (-1.0, ValueError), ("2", TypeError)])
def test_an_impossible_shift_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^max_shift: got "):
        EpisodeSampler(torch.zeros(5, 20, 8, 8, dtype=torch.uint8), augment=True, max_shift=value)


@pytest.mark.parametrize(
    ("alphabets", "error", "message"),
    [
        (torch.zeros(5), TypeError, "got torch.float32, need a tensor of torch.int64"),
        (torch.zeros(4, dtype=torch.int64), ValueError, r"got shape \(4,\), need \(5,\), as images"),
        (torch.arange(5), ValueError, "got 0 to 4, need numbers below num_alphabets = 2"),
    ],
)
def test_impossible_alphabets_are_refused(alphabets: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^alphabets: {message}"):
        ZeroShotSampler(torch.zeros(5, 20, 8, 8, dtype=torch.uint8), alphabets=alphabets, num_alphabets=2)
