"""Long attacks on training: kills at random moments, many steps, long episodes, many truncated segments.

`make soak` runs all of it, which takes about an hour; tests/test_soak.py has a short form of each.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_map

import mannkern
from mannkern.experiments import registry
from mannkern.experiments.algorithmic.config import CopyConfig
from mannkern.tasks import glyphs
from mannkern.training import loop
from tests.kills import KINDS, kills, rank_kills, torchrun_kills


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


def attack(folder: Path) -> None:
    """Every kill: of each kind of run alone, of ranks under the agent of ``torchrun``, and of ranks of the command."""
    split = glyphs.load(num_train=6, num_test=16)  # the autoencoder is validated with 15 classes
    glyphs.load = lambda: split
    for kind in KINDS:
        (folder / kind).mkdir()
        print(f"{kind}: 50 kills, equal at step {kills(kind, 50, folder / kind):,}", flush=True)
    for kind, ranks, count in (("glyphs", 2, 17), ("few-shot-glyphs", 3, 17), ("copy", 4, 16)):
        run = folder / f"{kind}-{ranks}"
        run.mkdir()
        steps = rank_kills(kind, count, ranks, run)
        print(f"{kind} on {ranks} ranks: {count} kills, equal at step {steps:,}", flush=True)
    for kind, ranks, count in (("copy", 2, 17), ("gaussian-processes", 3, 17), ("sinusoids", 4, 16)):
        run = folder / f"torchrun-{kind}-{ranks}"
        run.mkdir()
        steps = torchrun_kills(kind, count, ranks, run)
        print(f"{kind} on {ranks} ranks of the command torchrun: {count} kills, equal at step {steps:,}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        attack(Path(name))
        (Path(name) / "long").mkdir()
        grown = growth(100_000, Path(name) / "long")
        print(f"100,000 steps: the second half took {grown:.1f} MB more", flush=True)
        assert grown < 10
    long_episode(10_000)
    print("10,000 time steps: all is finite", flush=True)
    segments(1000)
    print("1,000 segments: all is finite")
