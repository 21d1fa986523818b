"""Episodes keep every rule of the paper and depend on nothing but their arguments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mannkern.tasks.characters.episodes import EpisodeSampler
from tests.tasks.characters.coded import coded_images, decode


def test_one_class_by_hand() -> None:
    """Two drawings of one pixel, black and white: each is shown once, and the second step knows the first's label."""
    images = torch.tensor([255, 0], dtype=torch.uint8).view(1, 2, 1, 1)
    inputs, targets, instances, symbols = EpisodeSampler(images, classes_per_episode=1, length=2).sample(1, 0)
    assert sorted(inputs[:, 0, 0].tolist()) == [0, 1]
    assert inputs[:, 0, 1].tolist() == [0, 1]
    assert (targets.flatten().tolist(), instances.flatten().tolist(), symbols.flatten().tolist()) == (
        [0, 0], [1, 2], [0, 0],
    )  # fmt: skip


def test_each_drawing_is_divided_by_its_darkest_pixel() -> None:
    """Of three drawings, one reaches 100, one 255 and one has no ink: 50 of 100 is a half, and no ink stays 0."""
    images = torch.tensor([[50, 100, 0, 0], [51, 255, 0, 0], [0, 0, 0, 0]], dtype=torch.uint8).view(1, 3, 2, 2)
    for scale, rows in (
        ("maximum", [[0, 0, 0, 0], [0.2, 1, 0, 0], [0.5, 1, 0, 0]]),
        ("255", [[0, 0, 0, 0], [50 / 255, 100 / 255, 0, 0], [0.2, 1, 0, 0]]),
    ):
        sampler = EpisodeSampler(images, classes_per_episode=1, length=3, image_scale=scale)
        pixels = sampler.sample(1, 0).inputs[:, 0, :4]
        assert torch.allclose(pixels[pixels.sum(1).argsort()], torch.tensor(rows))


def test_the_scale_comes_after_the_augmentation() -> None:
    """A drawing that is turned and shifted pales, since pixels are interpolated; then its darkest pixel becomes 1."""
    images = coded_images(30).roll((9, 9), (2, 3))  # away from the edge, over which it could be shifted
    pale, scaled = (
        EpisodeSampler(images, augment=True, image_scale=scale).sample(9, 2) for scale in ("255", "maximum")
    )
    assert torch.equal(pale.targets, scaled.targets)
    assert torch.equal(pale.inputs[..., 400:], scaled.inputs[..., 400:])
    before = pale.inputs[..., :400]
    assert torch.allclose(before / before.amax(-1, keepdim=True), scaled.inputs[..., :400])


@pytest.mark.parametrize("augment", [False, True])
def test_form(augment: bool) -> None:
    sampler = EpisodeSampler(coded_images(30), augment=augment)
    episodes = sampler.sample(7, 0)
    assert (sampler.num_classes, sampler.input_size) == (5, 405)
    assert episodes.inputs.shape == (50, 7, 405)
    assert episodes.targets.shape == episodes.instances.shape == (50, 7)
    assert episodes.inputs.dtype == torch.float32
    assert episodes.targets.dtype == episodes.instances.dtype == torch.int64
    assert all(tensor.is_contiguous() for tensor in episodes)
    assert episodes.inputs.min() == 0
    assert episodes.inputs[..., :400].max() == 1 or augment


@settings(deadline=None, max_examples=30)
@given(
    classes=st.integers(1, 6),
    spare=st.integers(0, 5),
    shown=st.integers(1, 8),
    batch=st.integers(1, 9),
    index=st.integers(0, 2**32 - 1),
)
def test_rules_of_an_episode(classes: int, spare: int, shown: int, batch: int, index: int) -> None:
    images = coded_images(classes + spare, drawings=8, side=3)
    sampler = EpisodeSampler(images, classes_per_episode=classes, length=classes * shown)
    episodes = sampler.sample(batch, index)
    which, drawing = decode(episodes)
    for b in range(batch):
        label_of = dict(zip(which[:, b].tolist(), episodes.targets[:, b].tolist()))
        assert len(label_of) == classes, "C different classes"
        assert sorted(label_of.values()) == list(range(classes)), "each with a label of its own"
        assert [label_of[c] for c in which[:, b].tolist()] == episodes.targets[:, b].tolist()
        assert len(set(zip(which[:, b].tolist(), drawing[:, b].tolist()))) == classes * shown, "no drawing twice"
        assert which[:, b].bincount(minlength=classes + spare).unique().tolist() in ([shown], [0, shown])
        count = dict.fromkeys(range(classes), 0)
        for target, instance in zip(episodes.targets[:, b].tolist(), episodes.instances[:, b].tolist()):
            count[target] += 1
            assert instance == count[target]


def test_the_label_arrives_one_step_later() -> None:
    episodes = EpisodeSampler(coded_images(9)).sample(6, 3)
    labels = episodes.inputs[..., 400:]
    assert not labels[0].any()
    assert torch.equal(labels[1:], torch.nn.functional.one_hot(episodes.targets[:-1], 5).float())


def test_everything_is_drawn_uniformly() -> None:
    episodes = EpisodeSampler(coded_images(8), classes_per_episode=4, length=40).sample(2000, 0)
    which, drawing = decode(episodes)
    T, B = which.shape
    assert torch.allclose(which.flatten().bincount() / (T * B), torch.tensor(1 / 8), atol=0.01)
    assert torch.allclose(drawing.flatten().bincount() / (T * B), torch.tensor(1 / 20), atol=0.005)
    for t in (0, T - 1):
        joint = (which[t] * 4 + episodes.targets[t]).bincount(minlength=32) / B
        assert torch.allclose(joint, torch.tensor(1 / 32), atol=0.02), "a class has no label and no place of its own"
    same = (episodes.targets[1:] == episodes.targets[:-1]).float().mean().item()
    assert same == pytest.approx(9 / 39, abs=0.01), "the order of the classes is shuffled"


@pytest.mark.parametrize("augment", [False, True])
def test_a_pure_function_of_its_arguments(augment: bool) -> None:
    def sampler(seed: int = 0) -> EpisodeSampler:
        return EpisodeSampler(coded_images(30), rotate_classes=True, augment=augment, seed=seed)

    state = torch.get_rng_state()
    one, other = sampler(), sampler()
    first = one.sample(4, 17)
    other.sample(4, 3)
    torch.rand(5)
    again = other.sample(4, 17)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    torch.set_rng_state(state)
    one.sample(4, 17)
    assert torch.equal(torch.get_rng_state(), state)
    for episodes in (one.sample(4, 18), sampler(seed=1).sample(4, 17), one.sample(4, 2**32 - 1)):
        assert not torch.equal(episodes.targets, first.targets)
        assert not torch.equal(episodes.inputs[..., :400], first.inputs[..., :400])


def test_an_empty_batch() -> None:
    for augment, scale in ((False, "255"), (True, "255"), (True, "maximum")):
        episodes = EpisodeSampler(coded_images(6), augment=augment, image_scale=scale).sample(0, 0)
        assert episodes.inputs.shape == (50, 0, 405)
        assert episodes.targets.shape == episodes.instances.shape == (50, 0)


def test_drawings_at_random_where_classes_need_not_be_balanced() -> None:
    """The paper's 100 steps of 15 classes: some class is shown ten times, none more often than it has drawings."""
    sampler = EpisodeSampler(coded_images(40), classes_per_episode=15, length=100, balanced=False)
    episodes = sampler.sample(200, 0)
    which, drawing = decode(episodes)
    for b in range(200):
        assert len(set(zip(which[:, b].tolist(), drawing[:, b].tolist()))) == 100, "no drawing twice"
        assert len(which[:, b].unique()) <= 15
    counts = torch.nn.functional.one_hot(episodes.targets, 15).sum(0)
    assert counts.float().mean() == pytest.approx(100 / 15)
    # without replacement: hypergeometric, 20 of 300 in a class
    expected = 100 * (1 / 15) * (14 / 15) * (200 / 299)
    assert counts.float().var() == pytest.approx(expected, rel=0.1)
    assert torch.equal(episodes.instances.amax(0), counts.amax(1))
    everything = EpisodeSampler(coded_images(6), classes_per_episode=3, length=60, balanced=False).sample(2, 0)
    assert everything.instances.amax(0).tolist() == [20, 20]


@pytest.mark.parametrize(
    ("images", "arguments", "error", "message"),
    [
        (coded_images(6).float(), {}, TypeError, "images: got torch.float32"),
        ([1], {}, TypeError, "images: got list"),
        (coded_images(6)[0], {}, ValueError, r"images: got shape \(20, 20, 20\)"),
        (coded_images(6)[..., :10], {}, ValueError, r"images: .* need \(classes, drawings, P, P\)"),
        (coded_images(6), {"classes_per_episode": 0}, ValueError, "classes_per_episode: got 0, need at least 1"),
        (coded_images(6), {"classes_per_episode": 7, "length": 7}, ValueError, "classes_per_episode: got 7, .* 6"),
        (coded_images(1), {"rotate_classes": True}, ValueError, "classes_per_episode: got 5, .* 4 classes"),
        (coded_images(6), {"classes_per_episode": 5.0}, TypeError, "classes_per_episode: got float"),
        (coded_images(6), {"length": 51}, ValueError, "length: got 51, need a multiple"),
        (coded_images(6), {"length": 0}, ValueError, "length: got 0"),
        (coded_images(6), {"length": 105}, ValueError, "length: got 105, need at most 100"),
        (coded_images(6), {"length": 101, "balanced": False}, ValueError, "length: got 101, need at most 100"),
        (coded_images(6), {"seed": -1}, ValueError, "seed: got -1"),
        (coded_images(6), {"image_scale": "mean"}, ValueError, "image_scale: got 'mean', need one of 'maximum', '255'"),
        (coded_images(6), {"side": 21}, ValueError, "side: got 21, need at most 20"),
        (coded_images(6), {"seed": True}, TypeError, "seed: got bool"),
    ],
)
def test_bad_arguments(images: Tensor, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EpisodeSampler(images, **arguments)


@pytest.mark.parametrize(
    ("batch_size", "index", "message"),
    [(-1, 0, "batch_size: got -1"), (1, -1, "index: got -1"), (1, 2**32, "index: got 4294967296, need at most")],
)
def test_bad_sample(batch_size: int, index: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeSampler(coded_images(6)).sample(batch_size, index)


def test_queries_last_by_hand() -> None:
    """Two classes, one shot: two drawings with their labels at the same steps, then a query of each without label."""
    images = coded_images(8)
    sampler = EpisodeSampler(images, classes_per_episode=2, length=4, queries_last=True)
    inputs, targets, instances, symbols = episodes = sampler.sample(50, 0)
    assert sampler.answers == slice(2, 4)
    assert torch.equal(inputs[:2, :, -2:], F.one_hot(targets[:2], 2).float())
    assert not inputs[2:, :, -2:].any()
    assert torch.equal(targets[:2].sort(0).values, torch.tensor([[0], [1]]).expand(2, 50))
    assert torch.equal(targets[2:].sort(0).values, torch.tensor([[0], [1]]).expand(2, 50))
    assert instances.tolist() == [[1] * 50] * 2 + [[2] * 50] * 2
    assert torch.equal(symbols[..., 0], targets)
    for part in (targets[:2], targets[2:]):
        assert 10 < int(part[0].sum()) < 40, "in shuffled order"
    which, drawing = decode(episodes)
    support, queries = which[:2].sort(0).values, which[2:].sort(0).values
    assert torch.equal(support, queries), "the queries are of the classes shown"
    shown = drawing.gather(0, targets[:2].argsort(0)), drawing[2:].gather(0, targets[2:].argsort(0))
    assert (shown[0] != shown[1]).all(), "and other drawings of them"


def test_queries_last_with_more_shots() -> None:
    """Three classes, five shots: five drawings of each in any order, three queries, eighteen different drawings."""
    sampler = EpisodeSampler(coded_images(9), classes_per_episode=3, length=18, queries_last=True, augment=False)
    episodes = sampler.sample(6, 1)
    assert (episodes.instances[15:] == 6).all()
    assert torch.equal(F.one_hot(episodes.targets[:15], 3).sum(0), torch.full((6, 3), 5))
    which, drawing = decode(episodes)
    assert all(len(set(zip(w.tolist(), d.tolist()))) == 18 for w, d in zip(which.T, drawing.T, strict=True))
    for arguments in ({"length": 3}, {"length": 18, "balanced": False}):
        with pytest.raises(ValueError, match=r"^queries_last: got \d+ steps, balanced .*, need balanced episodes"):
            EpisodeSampler(coded_images(9), classes_per_episode=3, queries_last=True, **arguments)  # type: ignore[arg-type]
