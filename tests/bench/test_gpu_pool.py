"""The pool of the GPU check: what a crash, a spoiled CUDA context and the deadline cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import gpu_pool
from bench.gpu_pool import UNFINISHED, Failure


def job(what: str, number: int) -> Any:
    """A job that ends its process, spoils its CUDA context, raises, or returns what cannot be sent."""
    if what == "abort":
        os.abort()
    if what == "exit":
        raise SystemExit(3)
    if what == "poison":
        torch.cuda.is_initialized, torch.cuda.synchronize = lambda: True, illegal  # type: ignore[assignment]
        return {"poison": "holds"}
    if what == "raise":
        raise NoPickle("first\n  second\n", 3)
    return lambda: None  # cannot be pickled


def pid(number: int) -> int:
    return os.getpid()


def illegal() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nSearch for it")


class NoPickle(Exception):
    """As Triton's errors: its arguments are not those of its constructor."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)


def sleeper(file: str) -> None:
    """A job that has started a compiler when the deadline comes."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (written := Path(file + ".new")).write_text(str(process.pid))
    written.rename(file)
    time.sleep(600)


@pytest.mark.slow
def test_example() -> None:
    """Of nine jobs in one process after the other, five do not work; each of the others has its result."""
    calls = [(pid, (0,)), (job, ("abort", 1)), (pid, (2,)), (job, ("poison", 3)), (pid, (4,)), (job, ("raise", 5)),
             (job, ("closure", 6)), (job, ("exit", 7)), (pid, (8,))]  # fmt: skip
    came: dict[int, Any] = {}
    results = gpu_pool.run(calls, 1, time.monotonic() + 120, came.__setitem__)
    assert came == dict(enumerate(results))
    assert results[1] == Failure("its process ended with exit code -6")
    assert results[3].why.startswith("it broke its CUDA context, RuntimeError: CUDA error: an illegal memory access")
    assert results[3].why.endswith("its result: {'poison': 'holds'}")
    assert results[5] == Failure("NoPickle: first second")
    assert "pickle" in results[6].why
    assert results[7] == Failure("its process ended with exit code 3")
    pids = [results[i] for i in (0, 2, 4, 8)]
    assert len({*pids}) == 4  # a process for the first two jobs, and a new one after each of three that it lost


@pytest.mark.slow
def test_at_the_deadline_processes_and_what_they_started_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over as soon as the job has started its compiler."""
    file, said = tmp_path / "pid", []
    monkeypatch.setattr(gpu_pool, "time", SimpleNamespace(monotonic=lambda: float(file.exists())))
    results = gpu_pool.run([(sleeper, (str(file),)), (pid, (1,))], 1, 0.5, lambda *x: said.append(x))
    assert results == [UNFINISHED, UNFINISHED]
    assert said == [(0, UNFINISHED)]
    status = Path(f"/proc/{file.read_text()}/status")
    assert not status.exists() or "Z (zombie)" in status.read_text()


@pytest.mark.slow
def test_a_job_that_hangs_costs_no_other_job_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three jobs in one process never ends; its time is over as soon as it has begun."""
    file = tmp_path / "pid"
    monkeypatch.setattr(gpu_pool, "time", SimpleNamespace(monotonic=lambda: 100.0 * file.exists()))
    calls = [(sleeper, (str(file),)), (pid, (1,)), (pid, (2,))]
    results = gpu_pool.run(calls, 1, 1000, most_seconds=0.5)
    assert results[0] == Failure("took more than 0.5 s, so it was ended")
    assert isinstance(results[1], int)
    assert results[1] == results[2], "a new process takes both of the others"


def test_no_jobs_and_no_time() -> None:
    assert gpu_pool.run([], 2, time.monotonic() + 10) == []
    assert gpu_pool.run([(pid, (0,))], 2, time.monotonic()) == [UNFINISHED]
