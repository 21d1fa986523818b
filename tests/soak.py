"""Long attacks on training: kills at random moments, many steps, long episodes, many truncated segments.

`make soak` runs all of it, which takes about an hour; tests/test_soak.py has a short form of each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.utils._pytree import tree_map

import mannkern
from mannkern.experiments import registry
from mannkern.experiments.algorithmic.config import CopyConfig
from mannkern.tasks import glyphs
from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from tests.training.launch import command, launch, printed
from tests.training.test_loop import MAIN, assert_same

LOGS = "--log-every 3 --validate-every 50 --batch-size 2 --threads 1 --save-seconds 0 --no-evaluate"
KINDS = {
    "glyphs": "--classes 2 --length 6 --hidden-size 8 --memory-slots 6 --memory-width 4 --num-reads 2",
    "copy": "--bits 2 --max-length 3 --hidden-size 4 --memory-slots 6 --memory-width 3",
    "few-shot-glyphs": "--classes 2 --width 4",
    "sinusoids": "--width 8 --hidden-size 8",
}


def kills(task: str, count: int, folder: Path, seed: int = 0) -> int:
    """Kill a run ``count`` times at random moments, resume it each time, and compare its end with an unbroken run.

    Returns the step that both end at. Raises AssertionError where they differ.
    """
    killed, straight, draw = folder / "killed", folder / "straight", random.Random(seed)
    command = [sys.executable, "-c", MAIN, "train"]
    for number in range(count):
        resume = number > 0 and load_checkpoint(killed) is not None
        begin = ["--resume"] if resume else [task, *KINDS[task].split(), *LOGS.split()]
        process = subprocess.Popen(
            [*command, *begin, "--steps", "1000000", "--no-evaluate", "--run", str(killed)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        before = (killed / "metrics.jsonl").stat().st_mtime if (killed / "metrics.jsonl").exists() else 0.0
        while process.poll() is None:  # until it trains: the moments before that are short and alike
            if (killed / "metrics.jsonl").exists() and (killed / "metrics.jsonl").stat().st_mtime != before:
                break
            time.sleep(0.01)
        time.sleep(draw.random())
        process.kill()
        _, errors = process.communicate()
        assert "Traceback" not in errors, errors
    checkpoint = load_checkpoint(killed)
    assert checkpoint is not None
    steps = checkpoint["step"] + 3
    ends = ["--steps", str(steps), "--no-evaluate"]
    subprocess.run([*command, "--resume", *ends, "--run", str(killed)], check=True, capture_output=True)
    whole = [task, *KINDS[task].split(), *LOGS.replace("--save-seconds 0", "").split(), *ends, "--run", str(straight)]
    subprocess.run([*command, *whole], check=True, capture_output=True)
    one, other = load_checkpoint(straight), load_checkpoint(killed)
    assert one is not None
    assert other is not None
    for name in ("model", "optimizer", "running_sums", "step", "rng"):
        assert_same(one[name], other[name], f"{task} {name}")
    return int(steps)


def rank_kills(task: str, count: int, ranks: int, folder: Path, seed: int = 0) -> int:
    """Kill a random one of the ``ranks`` ``count`` times, let ``torchrun``'s agent restart them, compare as ``kills``.

    A quarter of the kills may come before the ranks train again. Returns the step that both runs end at.
    """
    killed, straight, draw = folder / "killed", folder / "straight", random.Random(seed)
    begin = [task, *KINDS[task].split(), *LOGS.replace("size 2", "size 12").split()]
    over = threading.Event()
    attack = threading.Thread(target=_attack, args=(killed / "metrics.jsonl", count, draw, over))
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
    one, other = load_checkpoint(straight), load_checkpoint(killed)
    assert one is not None
    assert other is not None
    for name in ("model", "optimizer", "running_sums", "step", "rng"):
        assert_same(one[name], other[name], f"{task} on {ranks} ranks: {name}")
    lost = "mannkern: another process of this training has ended, so this one ends too"
    assert set(printed(folder / "logs")) <= {lost}
    return int(steps)


def _attack(metrics: Path, count: int, draw: random.Random, over: threading.Event) -> None:
    """Kill one of this process's children ``count`` times, then end them all by signals until it is ``over``."""
    for number in range(count + 1):
        before = metrics.stat().st_mtime_ns if metrics.exists() else 0
        if number in (0, count) or draw.random() < 0.75:
            while not metrics.exists() or metrics.stat().st_mtime_ns == before:
                time.sleep(0.01)
        time.sleep(draw.random())
        while number < count and not _kill(draw):
            time.sleep(0.01)
    while not over.wait(1.0):  # two kills may have come between two looks of the agent, which then has a restart left
        for rank in _children():
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM)


def _kill(draw: random.Random) -> bool:
    """Whether there was a rank to kill."""
    try:
        os.kill(draw.choice(_children()), signal.SIGKILL)
    except (IndexError, ProcessLookupError):  # the agent has just ended them
        return False
    return True


def _children() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def growth(steps: int, folder: Path) -> float:
    """MB by which the process grows over the second half of ``steps`` steps of a tiny model."""
    config = CopyConfig(
        bits=2, max_length=3, hidden_size=4, memory_slots=6, memory_width=3, batch_size=2, threads=1, steps=steps // 2
    )
    experiment = registry.prepare(config)
    loop.train(experiment, config, folder)
    before = _megabytes()
    loop.train(experiment, replace(config, steps=steps), folder)
    return _megabytes() - before


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _modules() -> list[nn.Module]:
    return [mannkern.MANN(3, 8, memory_slots=8, memory_width=4), mannkern.NTM(3, 8, memory_slots=8, memory_width=4)]


def long_episode(steps: int) -> None:
    """Run ``steps`` time steps forward and backward; every output and gradient has to be finite."""
    for module in _modules():
        inputs = torch.randn(steps, 1, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        output, _ = module(inputs)
        output.square().mean().backward()
        for name, tensor in (
            ("output", output),
            ("inputs", inputs.grad),
            *((n, p.grad) for n, p in module.named_parameters()),
        ):
            assert tensor is None or bool(tensor.isfinite().all()), f"{type(module).__name__}: {name}"


def segments(count: int) -> None:
    """Train on ``count`` segments whose state goes on and whose gradient is cut off between them."""
    for module in _modules():
        optimizer = torch.optim.Adam(module.parameters(), 1e-3)
        generator, state = torch.Generator().manual_seed(0), None
        for _ in range(count):
            output, state = module(torch.randn(5, 2, 3, generator=generator), state)
            loss = output.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = tree_map(lambda tensor: tensor.detach(), state)
        assert bool(loss.isfinite()), type(module).__name__


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for task in KINDS:
            (Path(name) / task).mkdir()
            print(f"{task}: 50 kills, equal at step {kills(task, 50, Path(name) / task):,}", flush=True)
        split = glyphs.load(num_train=6, num_test=4)
        glyphs.load = lambda: split
        for task, ranks, count in (("glyphs", 2, 17), ("few-shot-glyphs", 3, 17), ("copy", 4, 16)):
            folder = Path(name) / f"{task}-{ranks}"
            folder.mkdir()
            print(
                f"{task} on {ranks} ranks: {count} kills, equal at {rank_kills(task, count, ranks, folder):,}",
                flush=True,
            )
        (Path(name) / "long").mkdir()
        grown = growth(100_000, Path(name) / "long")
        print(f"100,000 steps: the second half took {grown:.1f} MB more", flush=True)
        assert grown < 10
    long_episode(10_000)
    print("10,000 time steps: all is finite", flush=True)
    segments(1000)
    print("1,000 segments: all is finite")
