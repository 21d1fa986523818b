"""A core that is registered is a model of the command line: one line, and no other file knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.memories.core import CORES, CoreSettings, register_core
from mannkern.models import build_core
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import COPY, SIZES, refused, run
from tests.memories.ring import CORE


@pytest.fixture(autouse=True)
def ring() -> Iterator[None]:
    """The ring buffer of tests/memories as a core that also understands LRUA's decay."""
    register_core(replace(CORE, options=("decay",)))
    yield
    del CORES["ring"]


def test_example() -> None:
    """2 hidden units and one read of a slot of width 3: an output of a step has 5 numbers."""
    core = build_core("ring", CoreSettings(1, hidden_size=2, memory_slots=4, memory_width=3, num_reads=1))
    assert core.output_size == 5
    assert core(torch.zeros(6, 2, 1))[0].shape == (6, 2, 5)


@pytest.mark.parametrize(("task", "sizes"), [("glyphs", SIZES), ("copy", COPY)])
def test_a_registered_core_trains_resumes_and_is_drawn(
    task: str, sizes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(f"train {task} --model ring --steps 4 --lr-decay none --episodes 4 --run", folder, sizes) == 0
    out = capsys.readouterr().out
    assert f"RING on {task}" in out
    assert "RING: 4 steps" in out
    assert {"glyphs": "memory.png", "copy": "sequence-3.png"}[task] in out, "its trace is drawn"
    assert run("train --resume --steps 5 --no-evaluate --run", folder) == 0
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint["step"] == 5
    assert "recurrent.cell.interface.weight" in checkpoint["model"]


def test_its_settings_apply_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'}"
    said = refused(capsys, "train glyphs --model ring --key-strength", new)
    assert "--key-strength does not apply to ring, only to mann" in said
    said = refused(capsys, "train glyphs --model lstm --decay 0.9", new)
    assert "--decay does not apply to lstm, only to mann, ring" in said
    with pytest.raises(SystemExit):
        run("train glyphs --help")
    text = " ".join(capsys.readouterr().out.split())
    for words in ("{mann,ntm,lstm,feedforward,ring}", "mann, ring: decay of usage", "mann, ntm, ring: slots N"):
        assert words in text
