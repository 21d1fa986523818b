"""TensorBoard's events where they cannot be written: one line on stderr, and training goes on."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from tests.training.parabola import Parabola, ParabolaConfig

CONFIG = ParabolaConfig(steps=40, log_every=1, validate_every=3, threads=1, save_seconds=0.0)


@pytest.mark.parametrize("method", ["write", "flush", "__init__"])
def test_events_that_cannot_be_written_end_no_training(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk. TensorBoard writes in a thread, whose error comes with a later call."""

    def fails(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    monkeypatch.setattr(writer.RecordWriter, method, fails)
    hook = threading.excepthook
    loop.train(Parabola(), CONFIG, tmp_path)
    said = capsys.readouterr().err
    assert f"warning: {tmp_path}/tensorboard: no more events for TensorBoard: No space left on device\n" in said
    assert said.count("TensorBoard") == 1
    assert "Traceback" not in said
    assert threading.excepthook is hook
    assert load_checkpoint(tmp_path)["step"] == 40  # type: ignore[index]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 40 + 13 + 1
