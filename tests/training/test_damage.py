"""Damage to a run's files: no flipped bit gives other weights, and only the damaged line of the metrics is lost."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.files import load_tensors
from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.errors import CommandError
from mannkern.training.metrics import read_metrics
from tests.training.parabola import Parabola, ParabolaConfig
from tests.training.small_runs import assert_same, assert_same_run

FLIPS = int(os.environ.get("MANNKERN_FLIPS", "300"))  # of single bits
CONFIG = ParabolaConfig(steps=9, lr=0.5, batch_size=1, log_every=2, threads=1, save_seconds=0.0)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit of the newest checkpoint is flipped: it is named, and the one before, of the step before, is used."""
    for step in (1, 2):
        save_checkpoint(tmp_path, {"w": torch.full((1000,), float(step)), "step": step})
    flip(tmp_path / "checkpoint.pt", 8 * 2000)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["step"] == 1
    said = capsys.readouterr().err
    assert "checkpoint.pt: got damaged content" in said
    assert said.strip().endswith(f"going on from {tmp_path / 'checkpoint.previous.pt'}, of step 1")


def test_a_flipped_bit_loads_the_same_tensors_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    state = {"model": torch.nn.LSTM(3, 5).state_dict(), "step": 3, "seconds": 1.5, "rng": torch.get_rng_state()}
    save_checkpoint(tmp_path, state)
    content = path.read_bytes()
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(content)), FLIPS):
        path.write_bytes(content)
        flip(path, bit)
        try:
            assert_same(load_tensors(path), state, f"bit {bit}")
        except ValueError:
            refused += 1
    assert refused > FLIPS / 2


def test_a_damaged_checkpoint_never_replaces_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"w": torch.full((1000,), float(step)), "step": step})
    flip(tmp_path / "checkpoint.pt", 8 * 2000)
    save_checkpoint(tmp_path, {"step": 3})
    assert [load_tensors(tmp_path / name)["step"] for name in ("checkpoint.pt", "checkpoint.previous.pt")] == [3, 1]


def test_training_goes_on_bit_for_bit_from_the_one_before(tmp_path: Path) -> None:
    damaged, straight = tmp_path / "damaged", tmp_path / "straight"
    for run, stops in ((straight, (9,)), (damaged, (6,))):
        run.mkdir()
        for stop in stops:
            loop.train(Parabola(), replace(CONFIG, steps=stop), run)
    assert load_tensors(damaged / "checkpoint.previous.pt")["step"] in (5, 6)
    flip(damaged / "checkpoint.pt", 8 * 600)
    loop.train(Parabola(), CONFIG, damaged)
    assert_same_run(straight, damaged)


def test_both_damaged_are_refused_in_one_line(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"w": torch.full((1000,), float(step)), "step": step})
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        flip(tmp_path / name, 8 * 2000)
    with pytest.raises(
        CommandError, match=r"checkpoint\.pt: got damaged.*checkpoint\.previous\.pt: got damaged"
    ) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_only_the_damaged_line_of_the_metrics_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop.train(Parabola(), CONFIG, tmp_path)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5  # the last is the validation at the end, which goes when the run goes on
    lines[1] = b'{"kind": "tr\xff\n'
    path.write_bytes(b"".join(lines) + b'{"kind": "train", "st')  # and a line that a kill cut short
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 6, 8, 9]
    capsys.readouterr()
    loop.train(Parabola(), replace(CONFIG, steps=10), tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 6, 8, 10, 10]
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == lines[1]
    assert "damaged lines are set aside in metrics.damaged.jsonl: 2" in capsys.readouterr().err
