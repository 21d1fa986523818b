"""Every public operation and module on drawn problems, beside the reference.

`make test` draws 300 problems, always the same. `make fuzz` draws 20,000 others each time; FUZZ is their number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mannkern.memories.cases import Shape
from tests.fuzz.comparison import counts
from tests.fuzz.modules import module_findings, module_problems
from tests.fuzz.operations import findings
from tests.fuzz.problems import CASES, Problem, problems
from tests.fuzz.rounding import OtherRounding
from tests.helpers import CPP, Kernel
from tests.interpreter import interpreted

TRITON: Kernel = ("triton", "")
MANY = int(os.environ.get("FUZZ", "0"))
pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


Findings = Callable[[Any], list[str]]
Record = Callable[[str, Any], None]


def solve(share: float, strategy: st.SearchStrategy[Any], findings: Findings, record: Record) -> None:
    """Draw this share of the problems and compare each. AssertionError where one differs or too few are drawn."""
    count = max(1, math.ceil(share * (MANY or 300)))

    @settings(
        max_examples=count,
        derandomize=not MANY,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(problem: Any) -> None:
        counts["drawn"] += 1
        assert findings(problem) == []

    counts.clear()
    check()
    for reason, number in counts.items():
        record(reason, number)
    assert counts["drawn"] >= count


def test_example() -> None:
    """One slot of one number, which a write adds 1 to: the same on every kernel."""
    shape = Shape(1, 1, 1, 1, 1)
    for kernel in CPP:
        assert findings(Problem("write", shape, "float32", 0, {}, {}, ("memory",), None, kernel)) == []


def test_another_rounding_shows_what_cancels() -> None:
    """1.5 + 1e-20 - 1.5 is 0 whatever happens to 1e-20; a sum rounded another way shows the error. Ties stay."""
    x = torch.tensor([1e-20, 1e-20], dtype=torch.float64)
    with OtherRounding(torch.float64, 1):
        difference = 1.5 + x - 1.5
    assert difference[0] == difference[1]
    assert 0 < abs(float(difference[0])) <= 2**-52


@pytest.mark.parametrize(
    "problem",
    [
        # a strength at the end of float64 was nudged to infinity
        Problem("read_strength", Shape(1, 4, 1, 1, 1), "float64", 0, {"strength": "most"}, {}, ("read",), None, CPP[0]),
        # an error of rounding times 2^64 at each of four steps ends float32, where the true gradient is 7e10
        Problem(
            "scan_strength_per_head",
            Shape(1, 13, 1, 1, 1, 4),
            "bfloat16",
            0,
            {"strengths": "most"},
            {},
            ("reads",),
            None,
            CPP[0],
        ),
    ],
    ids=lambda problem: problem.case,
)
def test_problems_that_were_taken_for_wrong(problem: Problem) -> None:
    assert findings(problem) == []


@pytest.mark.parametrize("name", CASES)
def test_operations(name: str, record_property: Record) -> None:
    solve(0.79 / len(CASES), problems([name], CPP), findings, record_property)


@interpreted
def test_triton(record_property: Record) -> None:
    names = [name for name, case in CASES.items() if case.operation.family == "lrua"]
    solve(0.01, problems(names, [TRITON], (12, 6, 3)), findings, record_property)


@pytest.mark.parametrize("module", ["MANN", "NTM"])
def test_modules(module: str, record_property: Record) -> None:
    solve(0.1, module_problems(module, CPP), module_findings, record_property)
