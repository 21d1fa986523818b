"""The examples run in a short form, and begin to learn."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = {"one_shot": 40, "copy_task": 100}


@cache
def output(name: str) -> str:
    """What an example prints in its first training steps, on one thread."""
    command = [sys.executable, f"examples/{name}.py", "--steps", str(STEPS[name])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def losses(name: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"^step +\d+: loss ([\d.]+),", output(name), re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "choices"), [("one_shot", 5), ("copy_task", 2)])
def test_the_first_loss_is_that_of_a_guess(name: str, choices: int) -> None:
    """A guess among C choices costs ln C: 1.609 for five classes, 0.693 for a bit."""
    assert losses(name)[0] == pytest.approx(math.log(choices), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_the_loss_falls(name: str) -> None:
    first, last = losses(name)
    assert last < first


def test_one_shot_prints_the_accuracy_of_each_presentation() -> None:
    last = output("one_shot").splitlines()[-1]
    assert last.startswith("unseen characters, accuracy by presentation:")
    percents = [float(percent) for percent in re.findall(r"([\d.]+)%", last)]
    assert len(percents) == 10
    assert all(0 < percent < 100 for percent in percents)


def test_copy_task_prints_the_bits_of_longer_sequences() -> None:
    found = re.findall(r"^length +(\d+): loss [\d.]+, bits right ([\d.]+)%$", output("copy_task"), re.MULTILINE)
    assert [length for length, _ in found] == ["20", "40", "120"]
    assert all(40 < float(percent) < 100 for _, percent in found)
