"""The GPU check where no GPU is: it says so, and builds or measures nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu

ROOT = Path(gpu.__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_gpu() -> None:
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "no GPU: torch.cuda.is_available() is False\n"
