"""Kills at random moments: of a run alone, of ranks of the agent of ``torchrun``, and of ranks of the command itself.

A killed run resumes, and must end with the weights, optimizer, random numbers and metrics of a run never killed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from PIL import Image
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from mannkern.training.checkpoint import load_checkpoint
from tests.training.launch import command, launch, printed
from tests.training.small_runs import assert_same_run

FORK = multiprocessing.get_context("fork")
LOGS = "--log-every 3 --validate-every 50 --batch-size 2 --threads 1 --save-seconds 0 --no-evaluate"
LOST = "mannkern: another process of this training has ended, so this one ends too"
SMALL = "--classes 2 --length 6 --hidden-size 8 --memory-slots 6 --memory-width 4 --num-reads 2"
KINDS = {
    "glyphs": f"glyphs {SMALL}",
    "persistent": f"glyphs {SMALL} --persistent --no-balanced",
    "strings": f"glyphs {SMALL} --labels strings --curriculum --memory-init uniform",
    "images": f"images {SMALL} --data IMAGES",
    "copy": "copy --bits 2 --max-length 3 --hidden-size 4 --memory-slots 6 --memory-width 3",
    "few-shot-glyphs": "few-shot-glyphs --classes 2 --width 4",
    "meta-networks": "few-shot-glyphs --model meta-networks --classes 2 --queries 1 --width 4",
    "sinusoids": "sinusoids --width 8 --hidden-size 8",
    "gaussian-processes": "gaussian-processes --length 5 --hidden-size 4 --memory-slots 6 --memory-width 3",
    "autoencoder-glyphs": "autoencoder-glyphs --hidden-size 8 --width 4",
    "zero-shot-glyphs": "zero-shot-glyphs --classes 2 --queries 1 --width 4 --hidden-size 4",
    "families-glyphs": "families-glyphs --classes 2 --queries 1 --width 4 --hidden-size 4",
    "few-shot-folder": "few-shot-folder --classes 2 --queries 1 --width 4 --data IMAGES",
}


def options(kind: str, folder: Path) -> list[str]:
    """The command line of a kind of run; the images that it may need are drawn in ``folder``."""
    images = folder / "images"
    for number in range(15 if "IMAGES" in KINDS[kind] else 0):
        (images / f"class {number}").mkdir(parents=True)
        for drawing in range(8):
            picture = Image.effect_noise((20, 20), 40 + 10 * number)
            picture.save(images / f"class {number}" / f"{drawing}.png")
    return [*KINDS[kind].replace("IMAGES", str(images)).split(), *LOGS.split()]


def kills(kind: str, count: int, folder: Path, seed: int = 0) -> int:
    """Kill a run ``count`` times at random moments, resume it each time, and compare its end with an unbroken run.

    Returns the step that both end at. Raises AssertionError where they differ.
    """
    killed, straight, draw = folder / "killed", folder / "straight", random.Random(seed)
    begin = options(kind, folder)
    for number in range(count):
        resume = number > 0 and load_checkpoint(killed) is not None
        before, changes = _changed(killed / "checkpoint.pt"), 2 if draw.random() < 0.8 else 1
        process = _start([*(["--resume"] if resume else begin), "--steps", "1000000"], killed)
        for _ in range(changes):  # of the checkpoint: at the beginning, and after a step, so that most kills follow one
            while process.is_alive() and _changed(killed / "checkpoint.pt") == before:
                time.sleep(0.01)
            before = _changed(killed / "checkpoint.pt")
        time.sleep(draw.random())
        process.kill()
        _end(process, killed, -signal.SIGKILL)
    checkpoint = load_checkpoint(killed)
    assert checkpoint is not None
    steps = checkpoint["step"] + 3
    for run, arguments in ((killed, ["--resume"]), (straight, [*begin, "--save-seconds", "1000"])):
        _end(_start([*arguments, "--steps", str(steps)], run), run)
    assert_same_run(straight, killed)
    return int(steps)


def _changed(path: Path) -> int:
    """When a file was written, 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _start(arguments: list[str], run: Path) -> ForkProcess:
    """``python -m mannkern train`` in a fork of this process, which spares it the imports."""
    process = FORK.Process(target=_train, args=(["train", *arguments, "--no-evaluate", "--run", str(run)], run))
    process.start()
    return process


def _train(arguments: list[str], run: Path) -> None:
    with run.with_suffix(".errors").open("w") as errors, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        command(arguments)


def _end(process: ForkProcess, run: Path, code: int = 0) -> None:
    process.join()
    said = run.with_suffix(".errors").read_text()
    assert process.exitcode == code, said
    assert [line for line in said.splitlines() if line.strip() and "%|" not in line] == []  # but for progress


def rank_kills(kind: str, count: int, ranks: int, folder: Path, seed: int = 0) -> int:
    """Kill a random one of the ``ranks`` ``count`` times, let ``torchrun``'s agent restart them, compare as ``kills``.

    A quarter of the kills may come before the ranks train again. Returns the step that both runs end at.
    """
    killed, straight, draw = folder / "killed", folder / "straight", random.Random(seed)
    begin = [*options(kind, folder), "--batch-size", "12"]
    over = threading.Event()
    attack = threading.Thread(target=_attack, args=(killed / "checkpoint.pt", count, draw, over, os.getpid()))
    attack.start()
    arguments = ["train", *begin, "--steps", "1000000", "--run", str(killed)]
    with pytest.raises(ChildFailedError):  # of the signal at the end
        launch(ranks, folder / "logs", command, arguments, restarts=count)
    over.set()
    attack.join()
    checkpoint = load_checkpoint(killed)
    assert checkpoint is not None
    steps = checkpoint["step"] + 3
    ends = ["--steps", str(steps), "--no-evaluate"]
    launch(ranks, folder / "end", command, ["train", "--resume", *ends, "--run", str(killed)])
    launch(ranks, folder / "whole", command, ["train", *begin, *ends, "--save-seconds", "1000", "--run", str(straight)])
    assert_same_run(straight, killed)
    assert set(printed(folder / "logs")) <= {LOST}
    return int(steps)


def torchrun_kills(kind: str, count: int, ranks: int, folder: Path, seed: int = 0) -> int:
    """As ``rank_kills``, of the processes that the command ``torchrun`` starts."""
    killed, straight, draw = folder / "killed", folder / "straight", random.Random(seed)
    begin = [*options(kind, folder), "--batch-size", "12"]
    process = torchrun(ranks, folder / "logs", [*begin, "--steps", "1000000", "--run", str(killed)], restarts=count)
    over = threading.Event()
    attack = threading.Thread(target=_attack, args=(killed / "checkpoint.pt", count, draw, over, process.pid))
    attack.start()
    _, errors = process.communicate()
    over.set()
    attack.join()
    assert process.returncode, errors
    checkpoint = load_checkpoint(killed)
    assert checkpoint is not None, errors
    steps = checkpoint["step"] + 3
    ends = ["--steps", str(steps), "--no-evaluate"]
    for run, arguments in ((killed, ["--resume"]), (straight, [*begin, "--save-seconds", "1000"])):
        process = torchrun(ranks, folder / f"{run.name}-end", [*arguments, *ends, "--run", str(run)])
        process.communicate()
        assert process.returncode == 0, printed(folder / f"{run.name}-end")
    assert_same_run(straight, killed)
    lines = printed(folder / "logs")
    assert set(lines) <= {LOST}, lines
    return int(steps)


def torchrun(ranks: int, logs: Path, arguments: list[str], restarts: int = 0) -> subprocess.Popen[str]:
    """Start ``torchrun -m mannkern train`` with these arguments; what the ranks print is in files under ``logs``."""
    options = [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--rdzv-backend=c10d"]
    options += ["--rdzv-endpoint=localhost:0", "--monitor-interval=0.1", f"--log-dir={logs}", "--redirects=3"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "--", "mannkern", "train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _attack(checkpoint: Path, count: int, draw: random.Random, over: threading.Event, agent: int) -> None:
    """Kill one of the agent's children ``count`` times, then end them all by signals until it is ``over``."""
    for number in range(count + 1):
        before = _changed(checkpoint)
        for _ in range(2 if number in (0, count) or draw.random() < 0.75 else 0):  # at the beginning, and after a step
            while _changed(checkpoint) == before:
                if over.wait(0.01):
                    return  # the agent gave up: its output says why
            before = _changed(checkpoint)
        time.sleep(draw.random())
        while number < count and not _kill(draw, agent):
            time.sleep(0.01)
    while not over.wait(1.0):  # two kills may have come between two looks of the agent, which then has a restart left
        for rank in _children(agent):
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM)


def _kill(draw: random.Random, agent: int) -> bool:
    """Whether there was a rank to kill."""
    try:
        os.kill(draw.choice(_children(agent)), signal.SIGKILL)
    except (IndexError, ProcessLookupError):  # the agent has just ended them
        return False
    return True


def _children(agent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if int(parent) == agent and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)
