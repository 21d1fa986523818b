"""Fixtures of ``pytest bench/``, which times contestants with pytest-benchmark; ``make test`` does not collect them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from bench import contestants
from bench.contestants import Contestant
from bench.harness import Accuracy
from bench.problems import Problem

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors in the tests; here torch.compile may warn."""
    config.addinivalue_line("filterwarnings", "default")


def entrants(workloads: list[str]) -> list[tuple[str, Contestant]]:
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
def contest(benchmark: Callable[..., object], threads: int) -> Callable[[Problem, Problem, Contestant], None]:
    """Checks a contestant on the second problem, then times it on the first."""

    def check_and_time(problem: Problem, checked: Problem, entrant: Contestant) -> None:
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

    return check_and_time
