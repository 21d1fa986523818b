"""Functions of a Gaussian process: its covariance, its exact predictions, and what a batch depends on."""

from __future__ import annotations

import math

import pytest
import torch

from mannkern.tasks.gaussian_processes import Functions, GaussianProcessSampler, episodes, kernel


def test_two_points_by_hand() -> None:
    """At a distance of one length scale the kernel is e^-1/2 = 0.6065; with noise 1 variances are 2.

    After the value 2 at the first point the second has the mean 0.6065 / 2 * 2 and the variance 2 - 0.6065^2 / 2.
    """
    points = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    assert kernel(points, points, 1.0).flatten().tolist() == pytest.approx([1, 0.60653, 0.60653, 1], abs=1e-5)
    sampler = GaussianProcessSampler(1, 2, 1.0, 1.0)
    functions = episodes(points, torch.tensor([[2.0, 5.0]], dtype=torch.float64))
    assert functions.inputs[:, 0].tolist() == [[0, 0], [1, 2]], "the value of a point comes a step later"
    assert functions.targets[:, 0].tolist() == [2, 5]
    mean, deviation = sampler.predictions(functions)
    assert mean[:, 0].tolist() == pytest.approx([0, 0.60653], abs=1e-5)
    assert deviation[:, 0].tolist() == pytest.approx([math.sqrt(2), math.sqrt(2 - 0.60653**2 / 2)], abs=1e-5)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_predictions_are_the_posterior_after_each_prefix(dimensions: int) -> None:
    sampler = GaussianProcessSampler(dimensions, 6, 0.7, 0.1, seed=2)
    functions = sampler.sample(3, 0)
    assert functions.inputs.shape == (6, 3, dimensions + 1)
    means, deviations = sampler.predictions(functions)
    points = functions.inputs[..., :dimensions].transpose(0, 1).double()
    for t in range(6):
        mean, deviation = sampler.posterior(points[:, :t], functions.targets[:t].T.double(), points[:, t : t + 1])
        torch.testing.assert_close(mean[:, 0], means[t])
        torch.testing.assert_close(deviation[:, 0], deviations[t])


def test_values_have_the_covariance_of_the_process() -> None:
    """Over many functions at the same points; white noise by the exact predictions has mean 0 and variance 1."""
    sampler = GaussianProcessSampler(2, 4, 1.0, 0.5)
    points = sampler.points(1, 4, torch.Generator().manual_seed(0)).expand(20_000, -1, -1)
    _, values = sampler.draw(points, torch.Generator().manual_seed(1))
    expected = kernel(points[:1], points[:1], 1.0)[0] + 0.25 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(values.T.cov(), expected, atol=0.05, rtol=0)
    mean, deviation = sampler.predictions(episodes(points, values))
    white = (values.T - mean) / deviation
    assert white.mean(1).abs().max() < 0.03
    torch.testing.assert_close(white.var(1), torch.ones(4, dtype=torch.float64), atol=0.05, rtol=0)


def test_points_fill_the_range() -> None:
    x = GaussianProcessSampler(3, 50).sample(100, 0).inputs[..., :3]
    assert (x.min(), x.max()) == (pytest.approx(-2, abs=0.01), pytest.approx(2, abs=0.01))
    assert x.std().item() == pytest.approx(4 / math.sqrt(12), rel=0.02)


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    one, state = GaussianProcessSampler(seed=3), torch.get_rng_state()
    one.sample(2, 0)
    batch = one.sample(2, 9)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(batch, GaussianProcessSampler(seed=3).sample(2, 9), strict=True))
    for other in (GaussianProcessSampler(seed=4).sample(2, 9), one.sample(2, 8)):
        assert not torch.equal(batch.targets, other.targets)
    assert isinstance(one.sample(0, 0), Functions)
    assert one.sample(0, 0).inputs.shape == (50, 0, 2)


@pytest.mark.parametrize(
    ("name", "value", "need"),
    [
        ("dimensions", 4, "at most 3"),
        ("length", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("length_scale", 0.0, "a number from 0.001 to 1000"),
        ("noise", math.nan, "a number from 0.001 to 1000"),
    ],
)
def test_wrong_settings(name: str, value: float, need: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got {value}, need {need}"):
        GaussianProcessSampler(**{name: value})  # type: ignore[arg-type]
