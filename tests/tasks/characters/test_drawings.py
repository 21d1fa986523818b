"""Single drawings: all of them, their quarter turns, and nothing but the arguments."""

from __future__ import annotations

import torch

from mannkern.tasks import DrawingSampler
from tests.tasks.characters.test_few_shot import coded_images, decode


def test_one_pixel_by_hand() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    drawings = DrawingSampler(images).sample(200, 0)
    assert drawings.shape == (200, 1)
    values = sorted(drawings.unique().tolist())
    assert torch.allclose(torch.tensor(values), torch.tensor([0, 0.2, 1.0]))


def test_every_drawing_of_every_class_is_drawn() -> None:
    drawings = DrawingSampler(coded_images(3, 4)).sample(500, 1).view(-1, 4, 4)
    classes, numbers = decode(drawings)
    assert len({(int(a), int(b)) for a, b in zip(classes, numbers, strict=True)}) == 12


def test_quarter_turns_and_augmentation() -> None:
    images = coded_images(2, 2, 20)
    turned = DrawingSampler(images, rotate_classes=True).sample(400, 0).view(-1, 20, 20)
    corners = [(0, 2), (2, -1), (-1, -3), (-3, 0)]  # where the third pixel of 255 is after no, one, two, three turns
    assert all(bool((turned[:, i, j] == 1).any()) for i, j in corners)
    moved = DrawingSampler(images, augment=True).sample(50, 0)
    assert len(moved.unique()) > len(DrawingSampler(images).sample(50, 0).unique())


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    images, state = coded_images(5), torch.get_rng_state()
    one = DrawingSampler(images, seed=3)
    one.sample(4, 0)
    assert torch.equal(one.sample(9, 2), DrawingSampler(images, seed=3).sample(9, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for other in (one.sample(9, 3), DrawingSampler(images, seed=4).sample(9, 2)):
        assert not torch.equal(one.sample(9, 2), other)
