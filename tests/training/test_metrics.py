"""Sums over steps, and a journal that forgets what lies beyond the checkpoint."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mannkern.training import loop
from mannkern.training.metrics import (
    Journal,
    empty_sums,
    layer_norms,
    reached_goal,
    read_metrics,
    step_sums,
    summarize,
)
from tests.training.parabola import Parabola, ParabolaConfig


class Lengths:
    """Stands for an experiment of one sum."""

    num_sums = 1

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        return {"length": sums[0] / steps}


def test_three_sums_over_two_steps_by_hand() -> None:
    running = empty_sums(1)
    for loss, norm, length in ((2.0, 4.0, 7.0), (1.0, 0.0, 2.0)):
        running += step_sums(
            torch.tensor(loss, requires_grad=True), torch.tensor(norm), torch.tensor([length]).double()
        )
    means = summarize(running, Lengths())  # type: ignore[arg-type]
    assert means == {"loss": 1.5, "gradient_norm": 2.0, "length": 4.5}


def test_the_journal_drops_what_lies_beyond_the_checkpoint(tmp_path: Path) -> None:
    with Journal(tmp_path, 0, ParabolaConfig()) as journal:
        for step in (2, 4, 6):
            journal.write("train", {"step": step, "loss": 0.1 * step, "accuracy_by_instance": {"1": 0.5, "10": None}})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')  # a kill in the middle of a line
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 6]
    with Journal(tmp_path, 4, ParabolaConfig()) as journal:
        journal.write("train", {"step": 6, "loss": 7.0})
        journal.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 0.2), (4, 0.4), (6, 7.0)]


def test_lost_lines_are_told_at_resumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once: the next checkpoint knows of those that are left. A last line that a kill cut is of no checkpoint."""
    config = ParabolaConfig(steps=4, log_every=1, validate_every=3, threads=1)
    loop.train(Parabola(), config, tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "tr')
    loop.train(Parabola(), replace(config, steps=5), tmp_path)
    assert "metrics.jsonl" not in capsys.readouterr().err
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:-3]))
    loop.train(Parabola(), replace(config, steps=6), tmp_path)
    said = f"mannkern: {metrics}: got 4 of 7 lines up to step 5; training goes on without the others\n"
    assert said in capsys.readouterr().err
    metrics.unlink()
    loop.train(Parabola(), replace(config, steps=7), tmp_path)
    assert "got 0 of 6 lines up to step 6" in capsys.readouterr().err
    loop.train(Parabola(), replace(config, steps=8), tmp_path)
    assert "metrics.jsonl" not in capsys.readouterr().err


def test_tensorboard_shows_the_resumed_events_only(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, value in ((0, 1.0), (2, 5.0)):
        with Journal(tmp_path, start, ParabolaConfig(seed=7)) as journal:
            for step in range(start + 1, 5):
                journal.write("train", {"step": step, "loss": value, "accuracy_by_instance": {"1": value}})
        time.sleep(1)  # TensorBoard orders the files by the second in their names
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {(event.step, event.value) for event in events.Scalars("train/loss")} == {(1, 1), (2, 1), (3, 5), (4, 5)}
    assert "train_instance/1" in events.Tags()["scalars"]
    (text,) = {event.tensor_proto.string_val[0].decode() for event in events.Tensors("settings/text_summary")}
    assert "| seed | 7 |" in text, "the settings are there as a table"


class Goal(ParabolaConfig):
    """Its goal is a loss of 0."""

    def is_reached(self, measured: Mapping[str, Any]) -> bool:
        return bool(measured["loss"] == 0)


def test_a_validation_at_the_end_alone_reaches_no_goal(tmp_path: Path) -> None:
    """An unbroken run has none there, so that it would train on; and the newest one of a step counts."""
    lines = [(3, 0.0), (4, 1.0), (4, 0.0), (8, 0.0), (8, 1.0)]
    written = [json.dumps({"kind": "validation", "step": step, "loss": loss}) for step, loss in lines]
    (tmp_path / "metrics.jsonl").write_text("\n".join(written) + "\n")
    config = Goal(validate_every=4)
    assert [reached_goal(tmp_path, config, step) for step in (3, 4, 8, 12)] == [False, True, False, False]


def test_the_norm_of_each_layer_by_hand() -> None:
    """Gradients 3 and 4 in one layer, 12 in the other: 5 and 12, the whole is 13, and clipping is undone."""
    model = nn.ModuleDict({"one": nn.Linear(1, 1), "other": nn.Linear(1, 1, bias=False), "idle": nn.Linear(1, 1)})
    gradients = {"one.weight": 3.0, "one.bias": 4.0, "other.weight": 12.0}
    for clip in (0.0, 6.5, 100.0):
        for name, value in gradients.items():
            parameter = model.get_parameter(name)
            parameter.grad = torch.full_like(parameter, value)
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip or math.inf)
        assert float(norm) == 13
        assert layer_norms(model, norm, clip) == pytest.approx({"one": 5.0, "other": 12.0})
    assert layer_norms(nn.Linear(1, 1), norm, 0.0) == {}
