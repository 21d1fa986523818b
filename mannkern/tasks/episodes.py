"""Episodes: what every task hands to a model."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Episodes(NamedTuple):
    """A batch of B episodes of T steps.

    inputs:    (T, B, F) float32, ``[x_t, y_{t-1}]``: the flattened image and the encoded label of the step before
    targets:   (T, B) int64, the label of ``x_t`` within its episode, in [0, C)
    instances: (T, B) int64, 1 where a class is shown for the first time, 2 for the second, ...
    """

    inputs: Tensor
    targets: Tensor
    instances: Tensor
