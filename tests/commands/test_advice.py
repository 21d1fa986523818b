"""The commands that messages advise: a shell takes them as they are printed, and they do what they promise."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

import mannkern
from mannkern.__main__ import main
from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import SIZES

NAME = "it's a/run 1"  # a shell needs quotes around it


def advised(text: str) -> list[str]:
    """The arguments, as a shell splits them, of the last ``python -m mannkern`` in ``text``."""
    return shlex.split(text.rpartition("python -m mannkern ")[2])


def test_what_a_shell_reads_by_hand() -> None:
    assert advised("Continue: python -m mannkern train --run 'a b' --resume\n") == ["train", "--run", "a b", "--resume"]


def test_more_training_trains_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ended at its third step, so more steps help, and more minutes would not."""
    folder = tmp_path / NAME
    assert main([*f"train glyphs --steps 3 {SIZES}".split(), "--run", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "STEPS counts the whole run: more than 3 in all" in last
    command = advised(last)
    assert command == ["train", "--run", str(folder), "--resume", "--steps", "STEPS"]
    assert main([*command[:-1], "4", "--no-evaluate"]) == 0
    assert load_checkpoint(folder)["step"] == 4  # type: ignore[index]


def test_more_training_beyond_a_goal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ended at --until, so more steps would end it there again."""
    folder = tmp_path / NAME
    sizes = SIZES.replace("--validate-every 4", "--validate-every 2")
    assert main([*f"train glyphs --steps 9 --until 0.01 {sizes}".split(), "--run", str(folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "at the accuracy of --until, 0.01" in last
    command = advised(last)
    assert command == ["train", "--run", str(folder), "--resume", "--until", "ACCURACY"]
    assert main([*command[:-1], "1.0", "--no-evaluate"]) == 0
    assert load_checkpoint(folder)["step"] == 9  # type: ignore[index]


@pytest.mark.parametrize("task", ["train", "table"])
def test_what_was_stopped_continues(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, train = tmp_path / NAME, loop.train

    def stopped(*arguments: Any) -> loop.Outcome:
        return train(*arguments)._replace(signal=15)

    monkeypatch.setattr(loop, "train", stopped)
    assert main([task, "glyphs", *f"--steps 1 {SIZES}".split(), "--run", str(folder)]) == 128 + 15
    rest = {"train": ["train", "--run", str(folder), "--resume"], "table": ["table", "glyphs", "--run", str(folder)]}
    assert advised(capsys.readouterr().out) == rest[task]


def test_a_run_without_a_checkpoint_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / NAME
    assert main([*f"train glyphs --steps 0 --no-evaluate {SIZES}".split(), "--run", str(folder)]) == 0
    for path in folder.glob("checkpoint*.pt"):
        path.unlink()
    capsys.readouterr()
    assert main(["export", str(folder), str(tmp_path / "a.safetensors")]) == 2
    command = advised(capsys.readouterr().err)
    assert command == ["train", "--run", str(folder), "--resume"]
    with pytest.raises(ValueError, match="has no checkpoint yet") as caught:
        mannkern.load(folder)
    assert advised(str(caught.value)) == command
