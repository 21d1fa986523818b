"""``pytest bench/``: it collects every contestant, and its small operations run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import conftest
from bench.test_operations import CASES
from mannkern.benchmark import contestants, workloads
from tests.bench.helpers import doubling, times

ROOT = Path(contestants.__file__).parents[2]
needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("pytest_benchmark") is None, reason="pytest-benchmark is not installed"
)


class Stopwatch:
    """Stands for the fixture of pytest-benchmark: it calls once."""

    def __init__(self) -> None:
        self.group, self.extra_info, self.calls = "", {}, 0

    def __call__(self, run: Callable[[], None]) -> None:
        run()
        self.calls += 1


def test_a_contestant_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who doubles is timed; who triples differs, and is not."""
    monkeypatch.setitem(contestants.CONTESTANTS, "doubling", [times(2.0, "reference")])
    right, wrong = Stopwatch(), Stopwatch()
    conftest.check_and_time(right, 1, doubling(), doubling(), times(2.0, "right"))
    assert (right.calls, right.group) == (1, "doubling, B = 4, 1 thread")
    assert right.extra_info == {"backend": "right", "threads": 1, "device": conftest.DEVICE, "B": 4}
    with pytest.raises(AssertionError, match=r"relative errors: y: 5\.00e-01"):
        conftest.check_and_time(wrong, 1, doubling(), doubling(), times(3.0))
    assert wrong.calls == 0


def run_benchmarks(*options: str) -> str:
    """What pytest prints of the benchmarks, which must pass."""
    command = [sys.executable, "-m", "pytest", "bench/", "-p", "no:xdist", "-p", "no:cacheprovider", *options]
    environment = {name: x for name, x in os.environ.items() if not name.startswith("PYTEST_XDIST")}  # not a worker
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collected() -> str:
    """Names of all benchmarks."""
    return run_benchmarks("--collect-only")


@pytest.mark.slow
@needs_plugin
def test_usage_update_by_hand(collected: str) -> None:
    """Each contestant at three batch sizes, on one and two threads."""
    found = [line for line in collected.splitlines() if "-usage_update-" in line]
    assert len(found) == 3 * 2 * len(contestants.of("usage_update"))


@pytest.mark.slow
@needs_plugin
def test_every_contestant_is_collected(collected: str) -> None:
    for workload in (*CASES, "mann", "copy", "mann_cell", "ntm_cell", *workloads.MODELS):
        for entrant in contestants.of(workload):
            assert f"-{workload}-{entrant.name}]" in collected


@pytest.mark.slow
@needs_plugin
def test_small_operations_are_checked_and_run() -> None:
    assert "passed" in run_benchmarks(
        "--benchmark-disable", "-k", "test_operation and threads1 and B1- and not compiled"
    )
