"""Links in a run's folder are never followed out of it, and two trainings do not share a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mannkern.training.lock import LOCK
from tests.commands.calls import SIZES, refused, run
from tests.training.test_lock import hold

TRAIN = f"train glyphs --steps 1 --no-evaluate {SIZES} --run"
FILES = ("config.json", "checkpoint.pt", "checkpoint.previous.pt", "metrics.jsonl", "metrics.damaged.jsonl")
NAMES = (*FILES, "evaluation.json", "train.lock", "tensorboard", "pictures", "lstm")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another run, which must stay as it is."""
    assert run(TRAIN, tmp_path / "other") == 0
    return tmp_path / "other"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwrite_deletes_a_link_and_not_what_it_points_to(tmp_path: Path, other: Path) -> None:
    folder, before = tmp_path / "run", contents(other)
    assert run(TRAIN, folder) == 0
    (folder / "lstm").symlink_to(other)
    for name in ("checkpoint.pt", "evaluation.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(other / "config.json")
    (folder / "pictures").symlink_to(other)
    assert run(TRAIN, folder, "--overwrite") == 0
    assert contents(other) == before
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", NAMES)
def test_a_link_at_a_name_of_the_run_is_refused(
    tmp_path: Path, other: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(TRAIN, folder) == 0
    kept = folder / name
    target = other / name
    if kept.exists():
        kept.rename(tmp_path / "kept")
        target = tmp_path / "kept"
    kept.symlink_to(target)
    before = contents(other)
    assert f"{kept} is a link" in refused(capsys, "train --resume --steps 3 --no-evaluate --run", folder)
    assert f"{kept} is a link" in refused(capsys, "evaluate --episodes 2", folder)
    assert contents(other) == before


def test_a_table_follows_no_link(tmp_path: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, before = tmp_path / "table", contents(other)
    root.mkdir()
    (root / "mann").symlink_to(other)
    assert f"{root / 'mann'} is a link" in refused(capsys, "table glyphs --steps 1 --run", root, SIZES)
    assert run("table glyphs --overwrite --steps 1 --episodes 4 --run", root, SIZES) == 0
    assert contents(other) == before


@pytest.mark.parametrize("command", ["--resume", "--overwrite"])
def test_a_second_training_is_refused_before_it_deletes_anything(
    tmp_path: Path, other: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(other)
    process = hold(other)
    try:
        begin = f"{TRAIN} {other} --overwrite" if command == "--overwrite" else f"train --resume --run {other}"
        assert f"process {process.pid} trains there" in refused(capsys, begin)
        assert {name: content for name, content in contents(other).items() if name != LOCK} == before
    finally:
        process.kill()
        process.communicate()
    assert run("train --resume --steps 2 --no-evaluate --run", other) == 0
    assert not (other / LOCK).exists()


def test_a_table_locks_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table" / "mann").mkdir(parents=True)
    process = hold(tmp_path / "table" / "mann")
    try:
        said = refused(capsys, "table glyphs --steps 1 --run", tmp_path / "table", SIZES)
        assert f"mann is in use: process {process.pid}" in said
    finally:
        process.kill()
        process.communicate()


def test_what_a_kill_leaves_counts_as_nothing(tmp_path: Path) -> None:
    """Temporary files of the run's own names, and the lock, do not make a folder one with other files."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json.01234567.tmp", "checkpoint.pt.89abcdef.tmp", LOCK):
        (folder / name).write_text("half")
    assert run(TRAIN, folder) == 0
    assert json.loads((folder / "config.json").read_text())["steps"] == 1
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
