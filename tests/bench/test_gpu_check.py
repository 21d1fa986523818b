"""The GPU check where no GPU is: it says so, and builds or measures nothing."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

from bench import gpu, gpu_jobs
from mannkern.verification.accuracy import Error
from mannkern.verification.checks import Check, Outcome, run

ROOT = Path(gpu.__file__).parents[1]


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU the check prints one line and returns 1; it builds nothing and writes no results."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "build", lambda: pytest.fail("it builds"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "results")])
    assert gpu.main() == 1
    assert capsys.readouterr().out == "no GPU: torch.cuda.is_available() is False\n"
    assert not (tmp_path / "results").exists()


def test_what_is_wrong_is_in_the_summary_and_what_was_not_run_is_named() -> None:
    """A check that holds, one that fails, a row of verify with one right and one wrong check, and one not run."""
    check = Check("lrua", "triton", "cuda", "float32", "step", "step, odd", seed=0)
    job = ("verify", "triton lrua_step float32", run, (check,))
    right, wrong = (Outcome({"read": Error(error, 1e-6)}, 1.0) for error in (1e-7, 1e-3))
    found = [
        (("checks", "split_batch", run, ()), {"split_batch": "holds"}),
        (("checks", "equal_slots", run, ()), {"equal_slots": "AssertionError: N = 128"}),
        (("checks", "modules", run, ()), gpu_jobs.UNFINISHED),
        *((job, outcome) for outcome in (right, wrong, gpu_jobs.UNFINISHED)),
        (("bench", "step", run, ()), (["triton"], [{"name": "cuda", "reason": "differs"}], True)),
    ]
    content = gpu_jobs.summary(found)
    assert content["checks"]["modules"] == "not run: no time was left"
    assert content["verify"][0]["of_checks"] == [2, 3]
    assert content["may_be_timed"] == {"step": ["triton"]}
    assert gpu_jobs.failures(content) == [
        "check equal_slots",
        "verify triton lrua_step float32: read of step, odd",
        "bench: a contestant of step differs from the reference",
    ]


def test_a_process_that_died_is_a_failure() -> None:
    """A crash takes all that its process was given with it: nothing of that counts as right."""
    check = Check("lrua", "triton", "cuda", "float32", "step", "step, odd", seed=0)
    died = BrokenProcessPool("a process died")
    names = (("verify", "triton lrua_step float32", run, (check,)), ("bench", "mann", run, ()))
    failed = gpu_jobs.failures(gpu_jobs.summary([(job, died) for job in names]))
    assert failed == [f"crashed: {job[0]} {job[1]}: BrokenProcessPool: a process died" for job in names]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_as_a_script_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "no GPU: torch.cuda.is_available() is False\n"
