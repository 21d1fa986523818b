"""Means with 95% intervals, by the normal distribution over independent draws."""

from __future__ import annotations

import math

from torch import Tensor

NORMAL_95 = 1.96  # standard errors on either side of a mean


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """values (n,) -> their mean, and half the width of its 95% interval; NaN where there is one value alone."""
    deviation = float(values.std()) if len(values) > 1 else math.nan
    return float(values.mean()), NORMAL_95 * deviation / math.sqrt(len(values))


def means_and_intervals(values: Tensor) -> tuple[list[float], list[float]]:
    """values (n, K), NaN where a draw has none -> for each column its mean, and half the width of its 95% interval."""
    count = (~values.isnan()).sum(0)
    mean = values.nanmean(0)
    variance = (values - mean).square().nansum(0) / (count - 1)
    return mean.tolist(), (NORMAL_95 * (variance / count).sqrt()).tolist()
