"""The LSTM that ``train --baseline`` trains beside a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import load_config
from mannkern.training import threads
from mannkern.training.threads import Trial
from tests.commands.calls import SIZES, refused, run


def threads_of(folder: Path) -> list[int | None]:
    return [load_config(path).threads for path in (folder, folder / "lstm")]


def test_an_lstm_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lstm = "train glyphs --model lstm --steps 1 --no-evaluate --run"
    assert run(lstm, tmp_path, SIZES.replace(" --memory-slots 6 --memory-width 4 --num-reads 2", "")) == 0
    said = refused(capsys, "train --resume --baseline --run", tmp_path)
    assert "--baseline trains an LSTM beside a memory; this run is an LSTM already" in said


def test_it_keeps_its_own_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine one thread is faster for the MANN, two for the LSTM; sums depend on the number."""
    trials = {"mann": Trial(1.0, 2.0, 2, 1.0), "lstm": Trial(2.0, 1.0, 2, 1.0)}
    monkeypatch.setattr(threads, "try_threads", lambda experiment, config: trials[config.model])
    sizes = SIZES.replace("--threads 1 ", "")
    assert run("train glyphs --baseline --steps 1 --no-evaluate --run", tmp_path, sizes) == 0
    assert threads_of(tmp_path) == [1, 2]
    assert run("train --resume --steps 2 --no-evaluate --run", tmp_path) == 0
    assert threads_of(tmp_path) == [1, 2]
    assert run("train --resume --steps 3 --threads 1 --no-evaluate --run", tmp_path) == 0
    assert threads_of(tmp_path) == [1, 1], "what the command line says is for both"


def test_the_baseline_trains_as_long_as_a_run_with_a_goal() -> None:
    baseline = OneShotConfig(baseline=True, until=0.5, steps=9).baseline_at(6)
    assert isinstance(baseline, OneShotConfig)
    assert (baseline.steps, baseline.until) == (6, None)
