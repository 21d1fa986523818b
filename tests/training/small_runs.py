"""Small runs of training, and whether two of them are the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import train
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.loop import Outcome

SMALL = OneShotConfig(
    classes=2,
    length=6,
    hidden_size=8,
    memory_slots=6,
    memory_width=4,
    num_reads=2,
    batch_size=2,
    log_every=3,
    validate_every=4,
    threads=1,
    memory_init="uniform",  # draws from torch's generator at every step, so its state has to come back too
)


def run_in(tmp_path: Path, name: str, config: RunConfig, *stops: int) -> Path:
    """Train to each of ``stops`` in turn, each in a loop of its own, as resuming does."""
    run = tmp_path / name
    run.mkdir()
    for stop in stops:
        assert train(replace(config, steps=stop), run) == Outcome(stop, None)
    return run


def assert_same_run(one: Path, other: Path) -> None:
    """Parameters, optimizer, generator, sums and every number of the metrics but the clock's."""
    a, b = load_checkpoint(one), load_checkpoint(other)
    assert a is not None
    assert b is not None
    for name in ("model", "optimizer", "running_sums", "step", "rng"):
        assert_same(a[name], b[name], name)
    assert numbers(one) == numbers(other)


def assert_same(a: Any, b: Any, name: str) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_same(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name
    else:
        assert a == b, name


def numbers(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds" and not k.endswith("_per_second")} for line in lines]
