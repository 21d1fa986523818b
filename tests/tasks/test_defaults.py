"""Data depend on the seed alone: not on PyTorch's default dtype or device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from mannkern.tasks import (
    AssociativeRecall,
    Copy,
    DynamicNGrams,
    EpisodeSampler,
    FewShotSampler,
    GaussianProcessSampler,
    ImageSampler,
    PrioritySort,
    RepeatCopy,
    SinusoidSampler,
    ZeroShotSampler,
    glyphs,
)
from mannkern.tasks.characters.drawings import DrawingSampler
from mannkern.tasks.characters.image_set import ImageSet

DRAWINGS = (torch.arange(8 * 16 * 20 * 20) * 7919 % 256).view(8, 16, 20, 20).byte()
COLOURS = [(torch.arange(12 * 3 * 8 * 8) * c % 256).view(12, 3, 8, 8).byte() for c in (3, 5, 7, 11, 13)]


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)


TASKS: dict[str, Callable[[], Sequence[Tensor]]] = {
    "glyphs": lambda: glyphs.load(num_train=3, num_test=2),
    "episodes": lambda: EpisodeSampler(DRAWINGS, augment=True, rotate_classes=True).sample(3, 0),
    "reduced": lambda: EpisodeSampler(DRAWINGS, augment=True, side=9, image_scale="maximum").sample(3, 0),
    "image set": lambda: EpisodeSampler(
        ImageSet(DRAWINGS.flatten(0, 1), torch.full((8,), 16, device="cpu")), augment=True
    ).sample(3, 0),
    "few-shot": lambda: FewShotSampler(DRAWINGS, augment=True).sample(3, 0),
    "images": lambda: ImageSampler(COLOURS).sample(3, 0),
    "zero-shot": lambda: ZeroShotSampler(DRAWINGS).sample(3, 0),
    "drawings": lambda: [DrawingSampler(DRAWINGS, augment=True).sample(3, 0)],
    "sinusoids": lambda: SinusoidSampler().sample(3, 0),
    "gaussian processes": lambda: GaussianProcessSampler().sample(3, 0),
    "copy": lambda: Copy().sample(3, generator(), (4,)),
    "repeat copy": lambda: RepeatCopy().sample(3, generator(), (4, 2)),
    "recall": lambda: AssociativeRecall().sample(3, generator(), (4,)),
    "n-grams": lambda: DynamicNGrams().sample(3, generator()),
    "sort": lambda: PrioritySort().sample(3, generator()),
}


@pytest.fixture(params=[(torch.float64, "cpu"), (torch.float32, "meta"), (torch.bfloat16, "cpu")])
def other_defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    dtype, device = request.param
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    yield
    torch.set_default_dtype(before)
    torch.set_default_device(None)


@pytest.fixture(scope="module")
def expected() -> dict[str, Sequence[Tensor]]:
    return {name: task() for name, task in TASKS.items()}


@pytest.mark.parametrize("name", TASKS)
def test_data_are_the_same(name: str, expected: dict[str, Sequence[Tensor]], other_defaults: None) -> None:
    for got, right in zip(TASKS[name](), expected[name], strict=True):
        assert (got.dtype, got.device) == (right.dtype, right.device)
        assert torch.equal(got, right)
