"""Sinusoids: the ranges of the paper, exact values, and what a batch depends on."""

from __future__ import annotations

import math

import pytest
import torch

from mannkern.tasks.sinusoids import SinusoidSampler, sinusoid


def test_example() -> None:
    """2 sin(0 - pi/2) = -2 and 2 sin(pi - pi/2) = 2."""
    y = sinusoid(torch.tensor([[[0.0], [math.pi]]]), torch.tensor([2.0]), torch.tensor([math.pi / 2]))
    torch.testing.assert_close(y, torch.tensor([[[-2.0], [2.0]]]))


def test_shapes_and_values() -> None:
    batch = SinusoidSampler(shots=5, queries=7).sample(3, 0)
    assert batch.support.shape == batch.labels.shape == (3, 5, 1)
    assert batch.queries.shape == batch.targets.shape == (3, 7, 1)
    for x, y in ((batch.support, batch.labels), (batch.queries, batch.targets)):
        for task in range(3):
            expected = batch.amplitudes[task] * torch.sin(x[task] - batch.phases[task])
            torch.testing.assert_close(y[task], expected)
    assert SinusoidSampler().sample(0, 0).support.shape == (0, 10, 1)


def test_the_ranges_are_the_papers_and_filled_evenly() -> None:
    batch = SinusoidSampler(shots=10, queries=10).sample(4000, 0)
    for found, low, high in (
        (batch.amplitudes, 0.1, 5.0),
        (batch.phases, 0.0, math.pi),
        (batch.support, -5.0, 5.0),
        (batch.queries, -5.0, 5.0),
    ):
        assert low <= found.min() < low + 0.01 * (high - low)
        assert high >= found.max() > high - 0.01 * (high - low)
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
        assert found.std().item() == pytest.approx((high - low) / math.sqrt(12), rel=0.05)


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    one = SinusoidSampler(seed=3)
    one.sample(2, 0)
    state = torch.get_rng_state()
    batch = one.sample(2, 9)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(batch, SinusoidSampler(seed=3).sample(2, 9), strict=True))
    for other in (SinusoidSampler(seed=4).sample(2, 9), one.sample(2, 8)):
        assert not torch.equal(batch.amplitudes, other.amplitudes)
        assert not torch.equal(batch.support, other.support)


@pytest.mark.parametrize("name", ["shots", "queries", "seed"])
def test_wrong_settings(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got -1, need at least"):
        SinusoidSampler(**{name: -1})
    with pytest.raises(TypeError, match=rf"^{name}: got float, need an integer"):
        SinusoidSampler(**{name: 1.0})  # type: ignore[arg-type]


def test_wrong_batches() -> None:
    with pytest.raises(ValueError, match=r"^batch_size: got -1"):
        SinusoidSampler().sample(-1, 0)
    with pytest.raises(ValueError, match=r"^index: got 4294967296"):
        SinusoidSampler().sample(1, 2**32)
