"""The GPU check where no GPU is: it says so, and a rehearsal goes through its benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import gpu, gpu_contest, gpu_ntm, measure

ROOT = Path(gpu.__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "no GPU: torch.cuda.is_available() is False\n"


def doubled(x: Tensor) -> measure.Run:
    return lambda: [2 * x]


def test_who_differs_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(50)

    def fails() -> list[Tensor]:
        raise RuntimeError("no compiler")

    runs = {"right": doubled(x), "wrong": lambda: [2.001 * x], "broken": fails}
    assert gpu_contest.check(["y"], runs, doubled(x.double()), doubled(x)).keys() == {"right"}
    said = capsys.readouterr().out
    assert "wrong is left out, it differs" in said
    assert "broken is left out, it cannot run: no compiler" in said


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"copy": 1.0, "fast": 0.5, "slow": 2.0}
    monkeypatch.setattr(gpu_contest.Bench, "copy_bandwidth", lambda self: 100.0)
    monkeypatch.setattr(gpu_contest.Bench, "seconds", lambda self, run: [times[run()]])
    bench = gpu_contest.Bench("cpu", repeats=1, deadline=float("inf"))
    bench.compare("step", 4, {"fast": lambda: lambda: "fast", "slow": lambda: lambda: "slow"}, "fast", moved=10.0)
    assert [row["name"] for row in bench.rows] == ["fast", "slow"]
    assert [row["ratio"] for row in bench.rows] == [1.0, 4.0]
    assert bench.rows[0]["bound"] == 4 * 10 / 100
    assert bench.rows[0]["of_bound"] == 0.4 / 0.5


def test_nothing_begins_after_the_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    bench = gpu_contest.Bench("cpu", repeats=1, deadline=0.0)
    bench.compare("step", 4, {"late": lambda: doubled(torch.rand(2))}, "late", moved=1.0)
    assert bench.rows == []
    assert "late: no time left" in capsys.readouterr().out


def test_bytes_of_a_step() -> None:
    """Of N = 128, W = 40, R = 4: forward 49 KB, memory read and written four fifths of it; backward 73 KB."""
    assert gpu_contest.FORWARD_BYTES == 40960 + 6144 + 1024 + 128 + 1936
    assert gpu_contest.BACKWARD_BYTES == 61440 + 8192 + 1024 + 128 + 3232


def test_bytes_of_the_ntm() -> None:
    """Of N = 128, W = 20, H = 2: memory read twice and written once, then read twice more and its gradients moved."""
    assert gpu_ntm.FORWARD_BYTES == 30720 + 5120 + 512 + 528
    assert gpu_ntm.BACKWARD_BYTES == 51200 + 8192 + 512 + 1056
