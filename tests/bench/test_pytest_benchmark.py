"""``pytest bench/``: it collects every contestant, and its small operations run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import contestants, workloads
from bench.test_operations import CASES

ROOT = Path(contestants.__file__).parents[1]
pytest.importorskip("pytest_benchmark")


def run_benchmarks(*options: str) -> str:
    """What pytest prints of the benchmarks, which must pass."""
    command = [sys.executable, "-m", "pytest", "bench/", "-p", "no:xdist", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collected() -> str:
    """Names of all benchmarks."""
    return run_benchmarks("--collect-only")


def test_usage_update_by_hand(collected: str) -> None:
    """Each contestant at three batch sizes, on one and two threads."""
    found = [line for line in collected.splitlines() if "-usage_update-" in line]
    assert len(found) == 3 * 2 * len(contestants.of("usage_update"))


def test_every_contestant_is_collected(collected: str) -> None:
    for workload in (*CASES, "mann", "copy", *workloads.MODELS):
        for entrant in contestants.of(workload):
            assert f"-{workload}-{entrant.name}]" in collected


def test_small_operations_are_checked_and_run() -> None:
    assert "passed" in run_benchmarks(
        "--benchmark-disable", "-k", "test_operation and threads1 and B1- and not compiled"
    )
