"""The GPU check from begin to end on a GPU and with a clock that are made up: what begins when, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu, gpu_contests, gpu_counts, gpu_jobs
from mannkern.benchmark import timing
from mannkern.benchmark.harness import NO_TIME
from mannkern.verification import checks as verification
from tests.helpers import pretend_gpu

Main = Callable[..., tuple[int, dict[str, Any]]]
JOBS: list[gpu_jobs.Job] = [
    ("checks", "modules", len, ()),
    ("verify", "cuda lrua_step float32", len, (verification.Check("lrua", "cuda", "cuda", "float32", "s", "w", 0),)),
    ("bench", "mann", len, ()),
]
OUTCOME = verification.Outcome({}, 1.0)
GOOD = [{"modules": "holds"}, OUTCOME, (["triton"], [], False)]


class Clock:
    """Stands in for time.monotonic; what took how long is logged in minutes."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, list[str]()

    def pass_by(self, seconds: float, what: str) -> None:
        self.log.append(f"{self.now / 60:.1f} {what}, {seconds:.0f} s")
        self.now += max(0, seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def main(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs the check with these results of JOBS; benchmarks end 20 s before their end. Returns exit code and file."""
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(timing, "copy_rate", lambda device: 4e12)
    monkeypatch.setattr(gpu_counts, "gpu_at_hand", lambda rate: gpu_counts.Gpu(90, 132, 1.98e9, rate))
    monkeypatch.setattr(gpu_jobs, "jobs", lambda *args: JOBS)

    def build(seconds: float) -> tuple[bool, str]:
        assert seconds == 60 * float(sys.argv[sys.argv.index("--minutes") + 1] if "--minutes" in sys.argv else 8)
        clock.pass_by(100, "build")
        return True, "built"

    def count(arch: int, seconds: float) -> tuple[list[Any], str]:
        clock.pass_by(min(seconds, 15), "counts")
        return [], "the counts took too long" if seconds < 15 else "needs nvcc"

    def sanitizer(seconds: float) -> dict[str, str]:
        clock.pass_by(seconds, "sanitizer")
        return {"sanitizer": "not run: took more than 5 s" if seconds > 0 else gpu_jobs.UNFINISHED}

    monkeypatch.setattr(gpu, "build", build)
    monkeypatch.setattr(gpu_counts, "count", count)
    monkeypatch.setattr(gpu_jobs, "run_sanitizer", sanitizer)

    def call(results: list[Any], *options: str, row: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        def run(jobs: Any, deadline: float) -> list[tuple[gpu_jobs.Job, Any]]:
            clock.pass_by(deadline - clock.now, "jobs")
            return list(zip(JOBS, results, strict=True))

        def contests(report: Any, save: Callable[[], Any], good: Any, tiny: bool) -> None:
            clock.pass_by(report.deadline - 20 - clock.now, "benchmarks")
            report.not_timed += [row] if row else []
            if row and row["reason"] == "broken":
                raise RuntimeError("CUDA error")
            report.rows.append({"what": "step forward", "B": 9, "name": "cuda", "seconds": 1.0})
            save()

        monkeypatch.setattr(gpu_jobs, "run", run)
        monkeypatch.setattr(gpu_contests, "run", contests)
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *options])
        return gpu.main(), json.loads((tmp_path / "nvidia-h200.json").read_text())

    return call


def test_example(main: Main, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts get what the benchmarks leave, and the sanitizer what they leave: the time limit holds."""
    status, content = main(GOOD)
    assert clock.log == ["0.0 build, 100 s", "1.7 jobs, 140 s", "4.0 benchmarks, 220 s", "7.7 counts, 15 s",
                         "7.9 sanitizer, 5 s"]  # fmt: skip
    assert status == 2
    assert content["hardware"] == {"arch": 90, "multiprocessors": 132, "clock": 1.98e9, "bandwidth": 4e12}
    assert content["not_run"] == ["checks sanitizer: took more than 5 s", "counts: needs nvcc"]
    assert "NOT RUN: checks sanitizer: took more than 5 s\nNOT RUN: counts: needs nvcc" in capsys.readouterr().out


def test_all_that_was_asked_for_was_run(main: Main, clock: Clock) -> None:
    """Stages that are left out are nothing that was not run."""
    status, content = main(GOOD, "--only", "build", "checks", "verify", "bench")
    assert (status, content["not_run"], content["failed"]) == (0, [], [])
    assert "counts" not in " ".join(clock.log)


def test_without_any_result(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    status, content = main([gpu_jobs.UNFINISHED] * 3, "--only", "checks", "verify", "bench")
    assert status == 2
    named = ["checks modules", "bench mann", "verify cuda lrua_step float32: 0 of 1 checks"]
    assert content["not_run"] == named
    assert capsys.readouterr().out.splitlines()[-3:] == [f"NOT RUN: {x}" for x in named]


def test_what_is_wrong_comes_before_what_was_not_run(main: Main) -> None:
    status, content = main([{"modules": "AssertionError"}, gpu_jobs.UNFINISHED, GOOD[2]], "--only", "checks", "verify")
    assert status == 1
    assert content["failed"] == ["check modules"]
    assert content["not_run"] == ["verify cuda lrua_step float32: 0 of 1 checks"]


def test_contestants_that_had_no_time_were_not_run(main: Main) -> None:
    row = {"what": "training", "B": 256, "name": "lstm", "reason": NO_TIME}
    status, content = main(GOOD, "--only", "bench", "checks", "verify", row=row)
    assert (status, content["not_run"]) == (2, ["timing training, B = 256: lstm"])


def test_benchmarks_that_end_early_cost_nothing_else(main: Main, clock: Clock) -> None:
    """An error that even the harness cannot catch, as of a spoiled CUDA context: the sanitizer runs none the less."""
    status, content = main(GOOD, row={"what": "training", "B": 256, "name": "cuda", "reason": "broken"})
    assert status == 1
    assert content["failed"] == ["crashed: timing: RuntimeError: CUDA error"]
    assert clock.log[-1] == "7.9 sanitizer, 5 s"
    status, content = main(GOOD, "--only", "bench")  # of which nothing is left, once the benchmarks come to their end
    assert (status, content["failed"]) == (0, [])


def test_a_stage_without_jobs_was_not_run(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_jobs, "jobs", lambda *args: JOBS[:1])
    monkeypatch.setattr("tests.bench.test_gpu_main.JOBS", JOBS[:1])
    status, content = main(GOOD[:1], "--only", "checks", "verify")
    assert (status, content["not_run"]) == (2, ["verify: no jobs"])


def test_no_time_for_counts(main: Main, clock: Clock) -> None:
    """Building alone takes longer than there is time."""
    status, content = main(GOOD, "--minutes", "1")
    assert status == 2
    assert content["not_run"] == ["checks sanitizer: no time was left", "counts: no time was left"]


def test_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The check prints one line and returns 1; it builds nothing and writes no results."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "build", lambda seconds: pytest.fail("it builds"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "results")])
    assert gpu.main() == 1
    assert capsys.readouterr().out == "no GPU: torch.cuda.is_available() is False\n"
    assert not (tmp_path / "results").exists()


def test_a_build_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {0: "mannkern: no CUDA library\nmore\n", 1: "error: no compiler", None: ""}
    for code, answer in {
        0: (True, "mannkern: no CUDA library"),
        1: (False, said[1]),
        None: (False, "took more than 9 s"),
    }.items():
        monkeypatch.setattr(gpu, "run_command", lambda command, seconds, environment: (code, said[code]))  # noqa: B023
        assert gpu.build(9) == answer


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_as_a_script_without_a_gpu() -> None:
    root = Path(gpu.__file__).parents[1]
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "no GPU: torch.cuda.is_available() is False\n"
