"""Every public operation of mannkern.functional with its gradient, at the standard sizes, on each backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.conftest import DEVICE, WARNINGS, entrants
from mannkern.benchmark import workloads
from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.problems import Operation
from mannkern.memories.cases import Shape

pytestmark = WARNINGS
LRUA, NTM = Shape(1, workloads.N, workloads.W, workloads.R, workloads.R), Shape(1, workloads.N, workloads.NTM_W, 2, 1)
CASES = {  # of the verification, by operation
    "least_used_mask": ("mask", LRUA),
    "additive_write": ("write", LRUA),
    "cosine_read": ("read_strength", LRUA),
    "usage_update": ("usage", LRUA),
    "lrua_step": ("step", LRUA),
    "lrua_scan": ("scan", LRUA._replace(T=workloads.T)),
    "shift_sharpen": ("shift_sharpen", NTM),
    "ntm_address": ("ntm_address", NTM),
    "ntm_write": ("ntm_write", NTM),
}


def problem(operation: str, B: int, T: int | None = None) -> Operation:
    """The operation on B episodes, a scan over T steps."""
    case, shape = CASES[operation]
    return workloads.operation(case, shape._replace(B=B, T=T or shape.T), DEVICE)


@pytest.mark.parametrize(("operation", "entrant"), entrants(list(CASES)))
@pytest.mark.parametrize("B", [1, 16, 256], ids=lambda B: f"B{B}")
def test_operation(contest: Callable[..., None], operation: str, entrant: Contestant, B: int) -> None:
    if operation == "lrua_scan":  # in more steps or episodes rounding may decide a near-tie of usage
        contest(problem(operation, B), problem(operation, min(B, 4), T=4), entrant)
    else:
        contest(problem(operation, B), problem(operation, B), entrant)
