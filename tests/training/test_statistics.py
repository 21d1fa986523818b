"""Means and their 95% intervals."""

import math
import warnings

import pytest
import torch

from mannkern.training.statistics import mean_and_interval, means_and_intervals


def test_four_numbers_by_hand() -> None:
    """1, 2, 3, 6 have mean 3 and variance (4 + 1 + 0 + 9) / 3; the half interval is 1.96 sqrt(14 / 3 / 4)."""
    mean, interval = mean_and_interval(torch.tensor([1.0, 2.0, 3.0, 6.0]).double())
    assert mean == 3
    assert interval == pytest.approx(1.96 * math.sqrt(14 / 12))


def test_one_number_has_no_interval() -> None:
    """Such as that of ``--validation-episodes 1``; PyTorch would warn of its deviation."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, interval = mean_and_interval(torch.tensor([5.0]))
    assert mean == 5
    assert math.isnan(interval)


def test_columns_leave_nan_out() -> None:
    nan = math.nan
    means, intervals = means_and_intervals(torch.tensor([[1.0, nan, nan], [2.0, 4.0, nan], [6.0, 4.0, nan]]).double())
    single = mean_and_interval(torch.tensor([1.0, 2.0, 6.0]).double())
    assert (means[0], intervals[0]) == pytest.approx(single)
    assert (means[1], intervals[1]) == (4, 0)
    assert math.isnan(means[2])
    assert math.isnan(intervals[2])
