"""Checkpoints come back equal and run no code; settings survive JSON; wrong settings are named."""

import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import load_config
from mannkern.files import write_json
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.errors import CommandError


def test_example(tmp_path: Path) -> None:
    """Weights (1, 2, 3) at step 7 are saved, and the same weights, step and settings are loaded."""
    state = {
        "model": {"w": torch.tensor([1.0, 2, 3])},
        "step": 7,
        "config": OneShotConfig().to_dict(),
        "cuda_rng": None,
    }
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


@pytest.mark.parametrize("content", ["empty", "text", "code", "a step too large for a number of training"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "checkpoint.pt"
    if content == "code":
        torch.save({"model": Evil()}, path)
    elif content.startswith("a step"):
        torch.save({"model": {}, "step": 10**30}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello"}[content])
    with pytest.raises(CommandError, match="not a checkpoint") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    assert not Path("owned").exists()


@pytest.mark.parametrize("entry", ["data.pkl", "DATA.PKL"])
@pytest.mark.parametrize("name", ["builtins bytearray", "__builtin__ bytearray", "torch Tensor", "collections Counter"])
def test_a_small_file_that_asks_for_memory_is_refused(tmp_path: Path, name: str, entry: str) -> None:
    """``torch.load`` calls these with any number, and takes as many bytes. It finds entries in any case of letters."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 1}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {item.filename: archive.read(item) for item in archive.infolist()}
    call = f"c{name}\n".replace(" ", "\n").encode() + pickle.BININT + struct.pack("<i", 2**30) + b"\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        for item, content in entries.items():
            pickled = item.endswith("data.pkl")
            archive.writestr(item.replace("data.pkl", entry), b"\x80\x02" + call if pickled else content)
    with pytest.raises(CommandError, match=f"got a call of {name}, need tensors"):
        load_checkpoint(tmp_path)


def test_a_description_of_many_containers_is_refused(tmp_path: Path) -> None:
    """A byte for an empty container, which takes 64: the file would take many times its size."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 1}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {item.filename: archive.read(item) for item in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for item, content in entries.items():
            many = b"\x80\x02(" + b"}" * (5 << 20) + b"l."
            archive.writestr(item, many if item.endswith("data.pkl") else content)
    with pytest.raises(CommandError, match=r"data\.pkl: got 5242885 bytes, need at most 4194304"):
        load_checkpoint(tmp_path)


def test_every_dtype_is_loaded(tmp_path: Path) -> None:
    dtypes = torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool
    state = {str(dtype): torch.nn.Parameter(torch.ones(3).to(dtype), dtype.is_floating_point) for dtype in dtypes}
    torch.save({"step": 1, "more": [torch.float32, torch.Size([2])], **state}, tmp_path / "checkpoint.pt")
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_config_survives_json(tmp_path: Path) -> None:
    config = OneShotConfig(memory_init="uniform", lr=3e-4, minutes=1.5, baseline=True)
    write_json(tmp_path / "config.json", config.to_dict())
    assert load_config(tmp_path) == config


def test_a_run_from_before_a_setting_keeps_what_it_did(tmp_path: Path) -> None:
    """Runs without an image scale divided images by 255; a new run divides by the maximum."""
    values = OneShotConfig().to_dict()
    assert values.pop("image_scale") == "maximum"
    write_json(tmp_path / "config.json", values)
    assert load_config(tmp_path) == OneShotConfig(image_scale="255")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no run at"):
        load_config(tmp_path / "nothing")


def test_settings_of_a_later_version_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"warmth": 3})
    with pytest.raises(CommandError, match="warmth"):
        load_config(tmp_path)
