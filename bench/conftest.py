"""Fixtures of ``pytest bench/``, which times contestants with pytest-benchmark; ``make test`` does not collect them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from mannkern.benchmark import contestants
from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.harness import Accuracy
from mannkern.benchmark.problems import Problem

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARNINGS = pytest.mark.filterwarnings("default")  # they are errors in the tests; here torch.compile may warn


def entrants(workloads: list[str]) -> list[Any]:
    """Every contestant of some workloads on this machine's device, as parameters of a benchmark."""
    return [
        pytest.param(workload, entrant, id=f"{workload}-{entrant.name}")
        for workload in workloads
        for entrant in contestants.of(workload, DEVICE)
    ]


@pytest.fixture(params=[1, 2], ids=lambda count: f"threads{count}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Number of threads, for this benchmark only; compiled functions begin anew."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    torch._dynamo.reset()
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def contest(benchmark: Any, threads: int) -> Callable[[Problem, Problem, Contestant], None]:
    """:func:`check_and_time` with the benchmark and the threads of the test."""
    return partial(check_and_time, benchmark, threads)


def check_and_time(benchmark: Any, threads: int, problem: Problem, checked: Problem, entrant: Contestant) -> None:
    """Check a contestant on the problem ``checked``, then time it on ``problem``.

    Raises AssertionError where the contestant differs from the reference: then it is not timed.
    """
    if reason := contestants.missing(entrant, DEVICE):
        pytest.skip(reason)
    if entrant.checked:
        Accuracy(checked).check(entrant.build(checked))
    run = entrant.build(problem)

    def to_the_end() -> None:
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"{problem.workload}, B = {problem.B}, {threads} thread{'s' * (threads > 1)}"
    benchmark.extra_info.update(backend=entrant.name, threads=threads, device=DEVICE, **problem.sizes)
    benchmark(to_the_end)
