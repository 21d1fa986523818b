"""Every public operation and module on drawn problems, beside the reference.

`make test` draws 300 problems, always the same. `make fuzz` draws 20,000 others each time; FUZZ is their number.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from mannkern.memories.cases import Shape
from tests.fuzz.modules import ModuleProblem, module_findings, module_problems
from tests.fuzz.operations import findings
from tests.fuzz.problems import CASES, Problem, problems
from tests.helpers import CPP, Kernel
from tests.interpreter import interpreted

TRITON: Kernel = ("triton", "")
MANY = int(os.environ.get("FUZZ", "0"))
pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def drawn(share: float) -> settings:
    """Settings of a test that has this share of the examples."""
    return settings(
        max_examples=max(1, round(share * (MANY or 300))),
        derandomize=not MANY,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def test_example() -> None:
    """One slot of one number, which a write adds 1 to: the same on every kernel."""
    shape = Shape(1, 1, 1, 1, 1)
    for kernel in CPP:
        assert findings(Problem("write", shape, "float32", 0, {}, {}, ("memory",), None, kernel)) == []


@pytest.mark.parametrize("name", CASES)
def test_operations(name: str) -> None:
    @drawn(0.79 / len(CASES))
    @given(problems([name], CPP))
    def check(problem: Problem) -> None:
        assert findings(problem) == []

    check()


@interpreted
def test_triton() -> None:
    @drawn(0.01)
    @given(problems([name for name, case in CASES.items() if case.operation.family == "lrua"], [TRITON], (12, 6, 3)))
    def check(problem: Problem) -> None:
        assert findings(problem) == []

    check()


@pytest.mark.parametrize("module", ["MANN", "NTM"])
def test_modules(module: str) -> None:
    @drawn(0.1)
    @given(module_problems(module, CPP))
    def check(problem: ModuleProblem) -> None:
        assert module_findings(problem) == []

    check()
