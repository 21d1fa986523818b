"""The GPU check where no GPU is: it says so, and builds or measures nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu

ROOT = Path(gpu.__file__).parents[1]


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a GPU the check prints one line and returns 1; it builds nothing and writes no results."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "build", lambda: pytest.fail("it builds"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "results")])
    assert gpu.main() == 1
    assert capsys.readouterr().out == "no GPU: torch.cuda.is_available() is False\n"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_as_a_script_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "no GPU: torch.cuda.is_available() is False\n"
