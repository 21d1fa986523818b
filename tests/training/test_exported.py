"""The file of a trained model: what it holds, and that a damaged one is refused."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

import mannkern
from mannkern.training.errors import CommandError
from mannkern.training.exported import exported_settings, exported_state, find_model, trained_models, write_exported
from tests.training.parabola import ParabolaConfig

PARAMETERS = {"weight": torch.tensor([[1.0, -2.0]]), "count": torch.tensor(7)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_exported(path, PARAMETERS, ParabolaConfig(device="meta", threads=3, seed=5), 12)
    return path


def test_what_is_written_is_read(file: Path) -> None:
    """Settings of the machine are not kept: another one has another device and other processors."""
    settings, state = exported_settings(file), exported_state(file)
    assert (settings["seed"], settings["device"], settings["threads"]) == (5, "cpu", None)
    assert state["step"] == 12
    assert {name: value.tolist() for name, value in state["model"].items()} == {"weight": [[1.0, -2.0]], "count": 7}


def test_other_programs_read_the_parameters(file: Path) -> None:
    loaded = pytest.importorskip("safetensors.torch").load_file(file)
    assert torch.equal(loaded["weight"], PARAMETERS["weight"])


def test_a_flipped_bit_is_refused(file: Path) -> None:
    """Beyond the format's own checks, a checksum covers settings, step, names and parameters."""
    content = file.read_bytes()
    for place in range(0, len(content), 5):
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(CommandError, match=f"^{re.escape(str(file))}: got damaged content or another file"):
            exported_state(file)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\2" + b"\0" * 7 + b"{}", b"\4" + b"\0" * 7 + b"null"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(CommandError, match="got damaged content or another file"):
        exported_settings(path)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CommandError, match="got no regular file"):
        exported_settings(tmp_path / "pipe.safetensors")


def test_without_safetensors_it_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"^a file of a trained model needs safetensors"):
        mannkern.load("mann-glyphs")
    with pytest.raises(CommandError, match=r"needs safetensors: pip install safetensors"):
        exported_state(file)


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = next(iter(trained_models().items()))
    assert find_model(name) == path
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert find_model(name) == Path(name)
    with pytest.raises(CommandError, match=f"no run and no model at nothing: need .* comes with mannkern .*{name}"):
        find_model("nothing")


def test_models_of_the_package_are_small_and_name_no_machine() -> None:
    """At most 3 MB each, so that the package stays small."""
    models = trained_models()
    assert {"mann-glyphs", "mann-omniglot", "matching-omniglot", "ntm-copy"} <= models.keys()
    for path in models.values():
        assert path.stat().st_size <= 3_000_000
        settings = exported_settings(path)
        assert settings.get("data") is None
        assert settings["device"] == "cpu"
        assert json.dumps(settings).isascii()
