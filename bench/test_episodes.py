"""Training steps over whole episodes: MANN on the standard episode, the NTM on the copy task, beside others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.conftest import DEVICE, WARNINGS, entrants
from mannkern.benchmark import workloads
from mannkern.benchmark.contestants import Contestant

pytestmark = WARNINGS


CELLS = {"mann_cell": workloads.mann_cell, "ntm_cell": workloads.ntm_cell}


@pytest.mark.parametrize(("workload", "entrant"), entrants(list(CELLS)))
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize("B", [1, 16], ids=lambda B: f"B{B}")
def test_cell(contest: Callable[..., None], workload: str, entrant: Contestant, gradient: bool, B: int) -> None:
    build = CELLS[workload]
    contest(build(B, device=DEVICE, gradient=gradient), build(B, workloads.CHECKED_STEPS, DEVICE, gradient), entrant)


@pytest.mark.parametrize(("workload", "entrant"), entrants(["mann", "copy"]))
@pytest.mark.parametrize("B", [1, 16, 64], ids=lambda B: f"B{B}")
def test_episode(contest: Callable[..., None], workload: str, entrant: Contestant, B: int) -> None:
    checked = min(B, workloads.CHECKED_BATCH)
    if workload == "mann":
        first_steps = workloads.mann(checked, workloads.CHECKED_STEPS, DEVICE)
        contest(workloads.mann(B, device=DEVICE), first_steps, entrant)
    else:
        contest(workloads.copy_task(B, DEVICE), workloads.copy_task(checked, DEVICE), entrant)
