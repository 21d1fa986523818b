"""``export`` writes a model into one file, which ``evaluate`` and ``mannkern.load`` read as they do a run."""

from pathlib import Path

import pytest
import torch

import mannkern
from mannkern.tasks import glyphs
from tests.commands.calls import SIZES, refused, run
from tests.tasks.test_images import write_images

load_glyphs = glyphs.load  # conftest replaces it by fewer classes than the autoencoder is measured on


def test_an_exported_model_is_the_model_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "run", tmp_path / "model.safetensors"
    assert run("train glyphs --steps 3 --no-evaluate --run", folder, SIZES) == 0
    assert run("export", folder, file) == 0
    assert f"{file}: MANN on glyphs, step 3, {file.stat().st_size:,} bytes" in capsys.readouterr().out
    one, other = mannkern.load(folder), mannkern.load(file)
    assert one.step == other.step == 3
    parameters = other.model.state_dict()
    assert all(torch.equal(value, parameters[name]) for name, value in one.model.state_dict().items())
    assert f"FILE: {file} is there already" in refused(capsys, "export", folder, file)
    assert run("export --overwrite", folder, file) == 0
    capsys.readouterr()
    assert run("evaluate --episodes 20", folder) == run("evaluate --episodes 20", file) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "±" in line and line.lstrip()[0] in "123"]
    assert len(rows) == 6
    assert rows[:3] == rows[3:], "the same episodes, the same numbers"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "run"], "nothing beside the file"


def test_runs_and_files_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "run", tmp_path / "model.safetensors"
    assert run("train glyphs --steps 3 --no-evaluate --run", folder, SIZES) == 0
    assert run("export", folder, file) == 0
    assert run("evaluate --episodes 20", file, folder) == 0
    out = capsys.readouterr().out
    assert "MANN model" in out
    assert f"MANN {folder}" in out
    assert (folder / "evaluation.json").exists()


@pytest.mark.parametrize(
    "command",
    [
        "gaussian-processes --length 4 --memory-slots 6 --memory-width 4 --hidden-size 4",
        "zero-shot-glyphs --classes 3 --width 4 --hidden-size 4",
        "families-glyphs --classes 3 --shots 2 --width 4 --hidden-size 4",
        "few-shot-images --data DATA --classes 2 --queries 2 --side 16 --width 4 --hidden-size 4",
        "autoencoder-glyphs --width 4 --hidden-size 4",
    ],
    ids=lambda command: command.split()[0],
)
def test_exported_models_of_other_kinds_are_evaluated(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is that of the run, and nothing is written beside the file."""
    split = load_glyphs(num_train=6, num_test=20)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    for part in ("train", "val", "test"):
        write_images(tmp_path / "data", part, 2)
    command = command.replace("DATA", str(tmp_path / "data"))
    folder, file = tmp_path / "run", tmp_path / "model.safetensors"
    assert run("train", command, "--threads 1 --batch-size 2 --steps 1 --no-evaluate --run", folder) == 0
    assert run("export", folder, file) == 0
    place = f"--data {tmp_path / 'data'}" if "--data" in command else ""
    tables = []
    for path in (folder, file):
        capsys.readouterr()
        assert run("evaluate --episodes 4 --threads 1", place, path) == 0
        tables.append([line for line in capsys.readouterr().out.splitlines() if "±" in line])
    assert tables[0] == tables[1]
    assert len(tables[0]) > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model.safetensors", "run"]


def test_wrong_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.safetensors"
    assert "FILE: got" in refused(capsys, "export", tmp_path, tmp_path / "model.pt")
    assert "is no folder" in refused(capsys, "export", tmp_path, tmp_path / "none" / "model.safetensors")
    assert "no run at" in refused(capsys, "export", tmp_path, file)
    file.symlink_to(tmp_path / "elsewhere")
    assert "is there already" in refused(capsys, "export --overwrite", tmp_path, file)
    assert "no run and no model at nobody" in refused(capsys, "evaluate nobody")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mannkern {mannkern.__version__}\n"


def test_an_exported_model_does_not_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"train glyphs {SIZES} --steps 1 --no-evaluate --run", tmp_path / "run") == 0
    assert run("export", tmp_path / "run", tmp_path / "model.safetensors") == 0
    said = refused(capsys, "train --resume --run", tmp_path / "model.safetensors")
    assert said.endswith("is an exported model, which trains no further; --resume needs the folder of a run")
