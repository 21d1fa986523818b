"""Training steps of the models of mannkern.models on each backend: checked in float64, timed in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.conftest import DEVICE, WARNINGS, entrants
from mannkern.benchmark import workloads
from mannkern.benchmark.contestants import Contestant

pytestmark = WARNINGS


@pytest.mark.parametrize(("name", "entrant"), entrants(list(workloads.MODELS)))
@pytest.mark.parametrize("B", [1, 16], ids=lambda B: f"B{B}")
def test_model(contest: Callable[..., None], name: str, entrant: Contestant, B: int) -> None:
    # In float32 rounding alone can decide the gradient of a parameter of one number, such as a strength.
    # T is that of the episode classifier.
    checked = workloads.model(name, B, DEVICE, T=workloads.CHECKED_STEPS).double()
    contest(workloads.model(name, B, DEVICE), checked, entrant)
