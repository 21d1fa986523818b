"""Training steps of every model of mannkern.models that has a memory, on each backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import episode, workloads
from bench.conftest import DEVICE, WARNINGS, entrants
from bench.contestants import Contestant

pytestmark = WARNINGS


@pytest.mark.parametrize(("name", "entrant"), entrants(list(workloads.MODELS)))
@pytest.mark.parametrize("B", [1, 16], ids=lambda B: f"B{B}")
def test_model(contest: Callable[..., None], name: str, entrant: Contestant, B: int) -> None:
    first_steps = workloads.model(name, B, DEVICE, T=episode.CHECKED_STEPS)  # T is that of the episode classifier
    contest(workloads.model(name, B, DEVICE), first_steps, entrant)
