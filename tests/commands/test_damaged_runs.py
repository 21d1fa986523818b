"""Damaged runs, impossible values, full and read-only disks: one line each, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mannkern import files
from mannkern.training import sizes
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.tables import write_evaluation
from tests.commands.calls import COPY, FEW_SHOT, SIZES, refused, run

TRAIN = f"train glyphs --steps 1 --no-evaluate {SIZES} --run"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"task": ["glyphs"]}', b'{"batch_size": "x"}',
     b'{"batch_size": null}', b'{"hidden_size": 1e400}', b'{"augment": 1}', b'{"model": 3}', b'{"threads": true}',
     b'{"seed": 1e20}', b'{"lr": NaN}', b" " * (1 << 21)],
    ids=lambda content: repr(content[:24]),
)  # fmt: skip
def test_damaged_settings(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_bytes(content)
    for command in ("train --resume --run", "evaluate"):
        said = refused(capsys, command, tmp_path)
        assert "config.json" in said or "no run at" in said
        assert "config.json: got " in said or content[:1] == b"{" or not content.strip()
    assert (tmp_path / "config.json").read_bytes() == content


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint.pt", "config.json"])
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TRAIN, tmp_path / "run") == 0
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert name in refused(capsys, "train --resume --run", tmp_path / "run")
    assert name in refused(capsys, TRAIN, tmp_path / "run", "--overwrite")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before, "a refused command deletes nothing"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--save-seconds nan", "--save-seconds: got nan, need a finite number"),
        ("--save-seconds -1", "--save-seconds: got -1.0, need at least 0"),
        (f"--seed {2**70}", "--seed: got 1.181e+21, need a number below 2**63"),
        ("--seed -1", "--seed: got -1, need at least 0"),
        (f"--threads {10**12}", "--threads: got 1000000000000, need at most 1024"),
        ("--memory-init inf", "--memory-init: got inf, need a finite number"),
        (f"--hidden-size {10**12}", "lower --batch-size"),
        (f"--hidden-size {10**6}", "of memory are available; lower --batch-size"),
        (f"--memory-slots {10**12}", "--memory-slots"),
        (f"--batch-size {10**12}", "--batch-size"),
        ("--device cuda:77", "--device cuda:77"),
        ("--device nonsense", "--device nonsense"),
        ("--device meta", "--device meta: holds no numbers"),
        ("--backend nonsense", "backend"),
    ],
)
def test_impossible_values_leave_nothing(
    tmp_path: Path, option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "train glyphs --run", tmp_path / "new", SIZES.replace("--threads 1", ""), option)
    assert said in message
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


@pytest.mark.parametrize(
    "command", [f"copy {COPY} --max-length {10**13}", f"few-shot-glyphs {FEW_SHOT} --width {10**7}",
                f"sinusoids --batch-size {10**13}", f"copy {COPY} --model lstm --lstm-layers {10**9}"]
)  # fmt: skip
def test_sizes_of_every_kind(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parts = command.replace("--memory-slots 6 --memory-width 3", "").replace("--hidden-size 4", "")
    assert "--" in refused(capsys, "train", parts if "lstm" in command else command, "--run", tmp_path / "new")
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


@pytest.mark.parametrize(
    "line",
    ['{"kind": "train", "step": 1}', '{"kind": "validation", "step": 1, "sequences": 2, "bits_per_sequence": "x"}'],
)
def test_a_line_of_metrics_without_its_numbers_leaves_pictures_out(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train copy --steps 1 --no-evaluate", COPY, "--run", tmp_path) == 0
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(line + "\n")
    assert run("evaluate --episodes 2", tmp_path) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert "warning: pictures are left out" in said
    assert "metrics.jsonl: a line lacks numbers that others have" in said


def test_a_resumed_run_keeps_its_settings_where_the_new_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TRAIN, tmp_path / "run") == 0
    before = (tmp_path / "run" / "config.json").read_bytes()
    refused(capsys, "train --resume --device cuda:77 --run", tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_what_a_kill_left_behind_is_deleted(tmp_path: Path) -> None:
    """A kill in the middle of a checkpoint leaves its temporary file. What is not the run's own stays."""
    assert run(TRAIN, tmp_path, "--baseline") == 0
    for folder in (tmp_path, tmp_path / "lstm"):
        for name in ("checkpoint.pt.0a1b2c3d.tmp", "metrics.jsonl.0a1b2c3d.tmp", "mine.tmp"):
            (folder / name).write_bytes(b"half")
    assert run("train --resume --no-evaluate --run", tmp_path) == 0
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.tmp"))
    assert left == ["lstm/mine.tmp", "mine.tmp"]


def test_a_place_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--run /dev/null/x: /dev/null is not a folder" in refused(capsys, TRAIN, "/dev/null/x")
    assert "no run at" in refused(capsys, "train --resume --run /dev/null/x")


def test_memory_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The estimate is from below: a run that fits is never refused."""
    monkeypatch.setattr(sizes, "available_bytes", lambda device: 1e6)
    assert run(TRAIN, tmp_path / "run") == 0


def test_no_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mannkern.experiments.registry.check_sizes", lambda *arguments: None)
    assert run("train glyphs --run", tmp_path / "run", SIZES, f"--memory-slots {10**13}") == 2
    assert "mannkern: not enough memory" in capsys.readouterr().err.splitlines()[-1]


def full(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every write of the file with that name finds the disk full."""
    write = files.write_atomically

    def fail(path: Path, fill: Any, previous: Path | None = None) -> None:
        def half(file: Any) -> None:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        write(path, half if path.name == name else fill, previous)

    for module in ("mannkern.files", "mannkern.training.checkpoint", "mannkern.training.metrics"):
        monkeypatch.setattr(f"{module}.write_atomically", fail)


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt", "metrics.jsonl"])
def test_after_a_full_disk_the_same_command_works(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        full(patch, name)
        assert run(TRAIN, tmp_path / "run") == 1
        assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.tmp"))
    assert (tmp_path / "run").exists() == (name != "config.json")
    assert run(TRAIN, tmp_path / "run") == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.name != "posix" or os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = SIZES.replace("--hidden-size 8", "--hidden-size 100")
    command = f"train glyphs --steps 1 --no-evaluate {sizes} --run {small_disk / 'run'}"
    assert run(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mannkern: ")
    assert "No space left on device" in last
    assert str(small_disk) in last, "it says which file"
    assert not list(small_disk.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert run(command) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "ead-only" in refused(capsys, "train --resume --steps 2 --no-evaluate --run", small_disk / "run")
    assert load_checkpoint(small_disk / "run") is not None


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder that is read-only after ``seal``."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    yield folder
    if os.name == "posix" and os.getuid():
        folder.chmod(0o755)
    else:
        subprocess.run(["umount", str(folder)], capture_output=True)


def seal(folder: Path) -> None:
    """Root may write where the permissions say nobody may, so for root the folder is mounted read-only."""
    if os.name == "posix" and os.getuid():
        folder.chmod(0o555)
        return
    for command in (["mount", "--bind", str(folder), str(folder)], ["mount", "-o", "remount,bind,ro", str(folder)]):
        if os.name != "posix" or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("root needs to mount a folder read-only")


def test_a_run_that_cannot_be_written_to_is_measured(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed and nothing is written there; another run in the same command gets its files."""
    assert run(TRAIN, sealed) == run(TRAIN, tmp_path / "other") == 0
    before = sorted(sealed.rglob("*"))
    seal(sealed)
    capsys.readouterr()
    assert run("evaluate --episodes 4", sealed) == 0
    out, err = capsys.readouterr()
    assert "instance" in out
    assert ".png" not in out
    warning = f"warning: {sealed} cannot be written to, so it gets no evaluation.json and no pictures: "
    assert next(line for line in err.splitlines() if "episodes" not in line).startswith(warning)
    assert len(err.splitlines()) == 2, "the other line is on few episodes"
    assert run("evaluate --episodes 4", sealed, tmp_path / "other") == 0
    assert str(tmp_path / "other" / "pictures" / "learning_curve.png") in capsys.readouterr().out
    assert (tmp_path / "other" / "evaluation.json").exists()
    assert sorted(sealed.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
def test_an_evaluation_is_lost_to_a_full_disk_alone(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, write: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files, "write_atomically", fail)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="No space"):
            write_evaluation(tmp_path, {})
    else:
        write_evaluation(tmp_path, {})
        assert f"no pictures: {os.strerror(number)}\n" in capsys.readouterr().err


def test_a_checkpoint_of_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TRAIN, tmp_path / "run") == 0
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 9}))
    said = refused(capsys, "train --resume --steps 3 --no-evaluate --run", tmp_path / "run")
    assert "config.json: --hidden-size: got 9, need 8, with which the run was trained" in said
    assert "does not fit the settings in config.json" in refused(capsys, "evaluate --episodes 2", tmp_path / "run")
    torch.save([1], tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "checkpoint.previous.pt").unlink()
    assert "not a checkpoint" in refused(capsys, "evaluate --episodes 2", tmp_path / "run")
