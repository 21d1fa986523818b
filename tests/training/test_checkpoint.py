"""Files are whole at every moment, and checkpoints load without running code."""

import os
from pathlib import Path

import pytest
import torch

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import load_config
from mannkern.files import write_atomically, write_json
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.errors import CommandError


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"


def test_the_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("replace"), replace(old, new)))
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert events == ["fsync", "replace", "fsync"]


def test_a_checkpoint_comes_back_equal(tmp_path: Path) -> None:
    state = {"model": {"w": torch.randn(3)}, "step": 7, "config": OneShotConfig().to_dict(), "cuda_rng": None}
    save_checkpoint(tmp_path, state)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.pop("model")["w"], state.pop("model")["w"])  # type: ignore[attr-defined]
    assert loaded == state


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("content", ["empty", "text", "code"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "checkpoint.pt"
    if content == "code":
        torch.save({"model": Evil()}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello"}[content])
    with pytest.raises(CommandError, match="not a checkpoint") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    assert not Path("owned").exists()


def test_a_config_survives_json(tmp_path: Path) -> None:
    config = OneShotConfig(memory_init="uniform", lr=3e-4, minutes=1.5, baseline=True)
    write_json(tmp_path / "config.json", config.to_dict())
    assert load_config(tmp_path) == config


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no run at"):
        load_config(tmp_path / "nothing")


def test_settings_of_a_later_version_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"warmth": 3})
    with pytest.raises(CommandError, match="warmth"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("lr", -1.0), ("steps", -1), ("minutes", float("nan")), ("threads", 0)]
)
def test_a_number_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name.replace("_", "-")):
        OneShotConfig(**{name: value})


def test_how_long_a_run_lasts() -> None:
    assert OneShotConfig().step_limit == 6250
    assert OneShotConfig(minutes=2).step_limit == float("inf")
    assert OneShotConfig(minutes=2).second_limit == 120
    assert (OneShotConfig(minutes=2, steps=5).step_limit, OneShotConfig(steps=5).second_limit) == (5, float("inf"))
