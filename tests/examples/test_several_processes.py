"""The examples for Lightning and Accelerate have the curve of one process on two; `torchrun` trains as documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run(*command: str) -> str:
    """What a command of Python prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning", "accelerate"])
def test_two_processes_have_the_curve_of_one(name: str) -> None:
    script = [f"examples/{name}_one_shot.py", "--steps", "3"]
    one, two = (re.findall(r"loss ([\d.]+)$", run(*start, *script), re.MULTILINE) for start in ([], TORCHRUN))
    assert len(one) == len(two) == 1
    assert float(one[0]) == pytest.approx(float(two[0]), abs=2e-4)


@pytest.mark.slow
def test_torchrun_trains_and_resumes_with_one_process(tmp_path: Path) -> None:
    sizes = "--bits 2 --max-length 3 --hidden-size 4 --memory-slots 6 --memory-width 3 --log-every 1 --no-evaluate"
    options = f"train copy {sizes} --batch-size 4 --steps 2 --decay-steps 3 --run {tmp_path}/run"
    printed = run(*TORCHRUN, "-m", "--", "mannkern", *options.split())
    assert printed == f"NTM on copy, in {tmp_path}/run (Ctrl-C stops and saves; --resume continues)\n"
    run("-m", "mannkern", "train", "--resume", "--steps", "3", "--run", f"{tmp_path}/run", "--no-evaluate")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3], "the last is a validation"
    assert [line["sequences"] for line in lines] == [4, 8, 12, 12]  # batches of 4, on two processes and on one
