"""``export`` writes a model into one file, which ``evaluate`` and ``mannkern.load`` read as they do a run."""

from pathlib import Path

import pytest
import torch

import mannkern
from tests.commands.calls import SIZES, refused, run


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
