"""``train images`` and ``few-shot-folder``: a user's own folder is trained on, evaluated, drawn and asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import mannkern
from mannkern.__main__ import main
from mannkern.commands.runs import changed
from mannkern.experiments.characters import load_split
from mannkern.experiments.registry import load_config
from mannkern.files import load_tensors
from mannkern.training.checkpoint import save_checkpoint
from tests.commands.calls import FEW_SHOT, SIZES, refused, run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten classes of seven or eight rectangular images in colour; the colour is the class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for c in range(10):
        folder = tmp_path / "data" / f"class{c}"
        folder.mkdir(parents=True)
        for i in range(7 + c % 2):
            Image.new("RGB", (24, 18), (25 * c, 250 - 25 * c, 9 * i)).save(folder / f"{i}.png")
    return tmp_path / "data"


def test_one_shot(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run(f"train images --data {data} --steps 2 --run", folder, SIZES) == 0
    out = capsys.readouterr().out
    assert "MANN on images" in out
    assert "memory.png" in out
    config = json.loads((folder / "config.json").read_text())
    assert (config["image_size"], config["channels"], config["rotate_classes"]) == ("18x24", 3, False)
    assert run("train --resume --steps 3 --no-evaluate --run", folder) == 0
    model = mannkern.load(folder)
    files = [data / f"class{c}" / "0.png" for c in (0, 5)]
    queries = [str(data / f"class{c}" / "1.png") for c in (5, 0, 5)]
    answers = model.predict(files, torch.tensor([0, 1]), queries)
    assert set(answers.tolist()) <= {0, 1}
    pixels = torch.stack([torch.tensor(list(Image.open(x).tobytes())).view(18, 24, 3) for x in [*files, *queries]])
    pixels = pixels.permute(0, 3, 1, 2).to(torch.uint8)
    assert torch.equal(model.predict(pixels[:2], torch.tensor([0, 1]), pixels[2:]), answers)
    with pytest.raises(ValueError, match=r"^queries: got shape \(1, 18, 24\), need \(n, 3, 18, 24\)$"):
        model.predict(files, torch.tensor([0, 1]), torch.zeros(1, 18, 24))


def test_a_small_class_makes_episodes_shorter(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven images in the smallest class, and two classes in an episode."""
    sizes = SIZES.replace("--length 6 ", "")
    assert run(f"train images --data {data} --steps 1 --no-evaluate --run", tmp_path / "run", sizes) == 0
    assert "A class has only 7 images, so an episode has 7 steps for each class." in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["length"] == 14


@pytest.mark.parametrize(("task", "sizes"), [("images", SIZES), ("few-shot-folder", FEW_SHOT)])
def test_runs_on_other_images_do_not_compare(
    data: Path, tmp_path: Path, task: str, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images of an episode depend on the folder, and on which of its classes are held out."""
    shutil.copytree(data, tmp_path / "copy")
    (tmp_path / "link").symlink_to(data)
    for name, options in (
        ("first", f"--data {data}"),
        ("again", f"--data {tmp_path / 'link'}"),
        ("other", f"--data {tmp_path / 'copy'}"),
        ("share", f"--data {data} --held-out 0.4"),
    ):
        assert run(f"train {task} {options} --steps 0 --no-evaluate --run", tmp_path / name, sizes) == 0
    for name in ("other", "share"):
        said = refused(capsys, "evaluate --episodes 4", tmp_path / "first", tmp_path / name)
        assert said == "mannkern: runs differ in task, in their data or in its sizes: their results do not compare"
    configs = [load_config(tmp_path / name) for name in ("first", "again", "other")]
    assert configs[0].comparable == configs[1].comparable
    moved = [changed(config, {"data": str(data)}) for config in configs]
    assert len({config.comparable for config in moved}) == 1, "evaluate --data gives all the same folder"


@pytest.mark.parametrize(("task", "sizes"), [("images", SIZES), ("few-shot-folder", FEW_SHOT)])
def test_an_added_class_does_not_change_which_are_held_out(
    data: Path, tmp_path: Path, task: str, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a run is tested on classes that it was trained on."""
    folder = tmp_path / "run"
    assert run(f"train {task} --data {data} --steps 1 --no-evaluate --run", folder, sizes) == 0
    config = load_config(folder)
    held_out = load_split(config).test_names  # type: ignore[arg-type, union-attr]
    assert json.loads((folder / "config.json").read_text())["held_out_classes"] == "/".join(held_out)
    for name in ("a", "b", "c"):
        shutil.copytree(data / "class0", data / name)
    assert load_split(config).test_names == held_out  # type: ignore[arg-type, union-attr]
    assert "--data: got other data" in refused(capsys, "train --resume --steps 2 --no-evaluate --run", folder)
    shutil.rmtree(data / held_out[0])
    said = refused(capsys, "evaluate --episodes 4", folder)
    assert f"got no class '{held_out[0]}', need it, as one of those for testing" in said
    new, own = f"--data {data} --steps 0 --no-evaluate --run {tmp_path / 'own'} {sizes}", ["a", "class1", held_out[1]]
    every = "/".join(path.name for path in data.iterdir())
    for chosen, message in ((f"class1/{held_out[0]}", "got no class"), (every, "need some, not all")):
        assert message in refused(capsys, f"train {task} --held-out-classes {chosen}", new)
        assert not (tmp_path / "own").exists()
    assert run(f"train {task} --held-out-classes {'/'.join(own)}", new) == 0
    assert load_split(load_config(tmp_path / "own")).test_names == sorted(own)  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(("task", "sizes"), [("images", SIZES), ("few-shot-folder", FEW_SHOT)])
def test_a_run_resumes_on_the_images_that_it_began_with(
    data: Path, tmp_path: Path, task: str, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they lie; on others its figures would be those of neither. Older checkpoints do not tell theirs."""
    folder, resume = tmp_path / "run", "train --resume --no-evaluate --run"
    assert run(f"train {task} --data {data} --steps 1 --no-evaluate --run", folder, sizes) == 0
    moved = shutil.copytree(data, tmp_path / "moved")
    assert run(resume, folder, "--steps 2 --data", moved) == 0
    before = (folder / "checkpoint.pt").read_bytes()
    Image.new("RGB", (24, 18), (1, 2, 3)).save(moved / "class1" / "more.png")
    need = "need the same; begin another run with --run"
    assert f"--data: got other data than the run began with, {need}" in refused(capsys, resume, folder, "--steps 3")
    assert (folder / "checkpoint.pt").read_bytes() == before
    older = load_tensors(folder / "checkpoint.pt")
    del older["data_digest"]
    save_checkpoint(folder, older)
    assert run(resume, folder, "--steps 3") == 0


@pytest.mark.parametrize("model", ["matching", "meta-memory"])
def test_few_shot(data: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run(f"train few-shot-folder --data {data} --model {model} --steps 2 --run", folder, FEW_SHOT) == 0
    assert "episode.png" in capsys.readouterr().out
    file = data / "class0" / "0.png"
    assert mannkern.load(folder).predict([file, file], torch.tensor([0, 1]), [file]).shape == (1,)


def test_a_name_cannot_write_to_the_terminal(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Linux takes line breaks and escape sequences in names of files; an error is one line all the same."""
    (data / "class0" / "a\n\x1b[31m\udcff.png").write_bytes(b"text")
    arguments = ["train", "images", "--data", str(data), "--run", str(tmp_path / "run")]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\n\x1b[31m\udcff.png" in line


def test_wrong_data_and_settings_are_refused_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = f"{SIZES} --run {tmp_path / 'new'}"
    for arguments, message in (
        ("", "images needs the folder of the images: --data FOLDER"),
        (f"--data {tmp_path / 'none'}", "--data: no such folder"),
        (f"--data {tmp_path / 'home'}", "--data: no such folder"),
        (f"--data {data} --image-size 5by5", "--image-size: got 5by5, need HEIGHTxWIDTH such as 28x28"),
        (f"--data {data} --channels 2", "--channels: got 2, need 1 or 3"),
        (f"--data {data} --held-out 1", "--held-out: got 1.0, need a share above 0 and below 1"),
        (f"--data {data} --rotate-classes", "--rotate-classes: got images of 18x24, need squares"),
        (f"--data {data} --split paper", "--split does not apply to images"),
    ):
        assert message in refused(capsys, "train images", arguments, new)
    many = new.replace("--classes 2 --length 6", "--classes 3 --length 9")
    assert refused(capsys, f"train images --data {data}", many).endswith(
        "--classes: got 3, need at most 2: 8 classes are for training and 2 for validation; --held-out 0.3 gives "
        "validation enough"
    )
    assert refused(capsys, f"train images --data {data}", many.replace("3 --length 9", "6 --length 12")).endswith(
        "2 for validation; add classes, or take --classes 5 --held-out 0.5"
    )
    assert "--length: got 7, need a multiple of --classes = 2 where balanced" in refused(
        capsys, f"train images --data {data}", new.replace("--length 6", "--length 7 --balanced")
    )
    assert "--data: the class 'class0' has 7 images, and an episode shows 8 different ones of a class" in refused(
        capsys, f"train images --data {data}", new.replace("--length 6", "--length 16")
    )
    assert "'class0' has 7 images, and an episode shows 9" in refused(
        capsys, f"train few-shot-folder --data {data} --shots 8 --run {tmp_path / 'new'}"
    )
    assert "--image-size: got 12x24, need at least 16 a side" in refused(
        capsys, f"train few-shot-folder --data {data} --image-size 12x24 {FEW_SHOT} --run {tmp_path / 'new'}"
    )
    assert "--channels: got 3, need 1 with meta-networks" in refused(
        capsys, f"train few-shot-folder --data {data} --model meta-networks {FEW_SHOT} --run {tmp_path / 'new'}"
    )
    assert not (tmp_path / "new").exists()
