"""A run that is killed, or stopped by a signal, goes on bit for bit as if it never had been."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mannkern.tasks import glyphs
from mannkern.training.checkpoint import load_checkpoint
from tests.training.small_runs import SMALL, assert_same_run, run_in

OPTIONS = (  # noqa: SIM905 (reads as on the command line)
    "glyphs --classes 2 --length 6 --hidden-size 8 --memory-slots 6 --memory-width 4 --num-reads 2 --batch-size 2 "
    "--log-every 3 --validate-every 4 --threads 1 --memory-init uniform --no-evaluate"
).split()


# The command line with few glyphs and few images of the mean, as tests have: all of them take longer than these runs.
MAIN = """
import functools, sys
from mannkern.experiments.one_shot import experiment
from mannkern.tasks import glyphs
experiment.MEAN_OF = 200
glyphs.load = functools.partial(glyphs.load, num_train=6, num_test=4)
from mannkern.__main__ import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def start(run: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, "train", *options, "--run", str(run)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def step_of(run: Path) -> int:
    checkpoint = load_checkpoint(run)
    return -1 if checkpoint is None else int(checkpoint["step"])


def wait_for_step(run: Path, step: int) -> int:
    """Read the checkpoint over and over while it is being replaced: it has to load every time."""
    deadline = time.monotonic() + 60
    while (now := step_of(run)) < step:
        assert time.monotonic() < deadline, "no checkpoint came"
    return now


def resume_to(run: Path, steps: int) -> None:
    process = start(run, "--resume", "--steps", str(steps), "--no-evaluate")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    process = start(killed, *OPTIONS, "--steps", "1000000", "--save-seconds", "0")
    wait_for_step(killed, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    step = step_of(killed) + 5
    resume_to(killed, step)
    assert_same_run(run_in(tmp_path, "straight", SMALL, step), killed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: int, code: int) -> None:
    run = tmp_path / "run"
    process = start(run, *OPTIONS, "--steps", "1000000", "--save-seconds", "1000")
    wait_for_step(run, 0)
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text()) < 1000:
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    step = step_of(run)
    assert step > 3, "saved at the signal, not by the clock"
    assert f"Stopped at step {step:,}; saved." in output
    assert f"--run {run} --resume" in output
    if number == signal.SIGINT:
        resume_to(run, step + 4)
        assert_same_run(run_in(tmp_path, "straight", SMALL, step + 4), run)
