"""What the command line refuses: in one line, before it leaves anything behind."""

import os
import sys
from pathlib import Path

import pytest

from mannkern.__main__ import main
from mannkern.commands import options
from mannkern.commands.options import check_file
from mannkern.training.errors import CommandError
from tests.commands.calls import COPY, FEW_SHOT, SIZES, refused, run


def test_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy task has an NTM and an LSTM, so ``--model mann`` is refused in one line, with exit code 2."""
    message = refused(capsys, "train copy --model mann --run", tmp_path / "new")
    assert message == "mannkern: --model: got mann, need one of ntm, lstm"
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "the following arguments are required: COMMAND (python -m mannkern --help)"),
        ("train copyy", "TASK: got copyy, need one of "),
        ("train copyy", "; did you mean copy? (python -m mannkern train --help)"),
        ("train copy --learning-rate 1", "--learning-rate: there is no such option; did you mean --lr? ("),
        ("bench --slots 8", "--slots: there is no such option; did you mean --memory-slots? ("),
        ("train copy --batchsize=3", "--batchsize: there is no such option; did you mean --batch-size? ("),
        ("train copy --way 3", "--way: there is no such option (python -m mannkern train --help)"),
        ("train copy more", "got more too, need nothing there (python -m mannkern train --help)"),
        ("train copy --lr fast", "--lr: got 'fast', need a number ("),
        ("train copy --resume --overwrite", "--overwrite: not allowed with argument --resume ("),
        ("bench --batch-size x", "--batch-size: got 'x', need an integer (python -m mannkern bench --help)"),
        ("completion fish", "shell: got fish, need one of bash, zsh, tcsh (python -m mannkern completion --help)"),
        (
            "train copy --lr 1e39 --optimizer rmsprop",
            "--lr: got 1e+39, need at most 3.40e+38, float32's largest number",
        ),
        (f"train copy --seed {10**40}", "--seed: got 1.000e+40, need a number below 2**63"),
        (f"train copy --seed 1{'0' * 400}", "--seed: got a number of 1,329 bits, need a number below 2**63"),
        (f"train copy --seed 1{'0' * 5000}", f"--seed: got '1{'0' * 78}, need an integer ("),
        ("train copy --memory-slots 0", "--memory-slots: got 0, need at least 1"),
        (
            "train glyphs --classes 3 --length 50 --balanced",
            "--length: got 50, need a multiple of --classes = 3 where balanced",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, command)
    assert not any(tmp_path.iterdir()), "a refused command leaves nothing"


def test_settings_of_another_task_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'}"
    assert "--classes does not apply to copy" in refused(capsys, "train copy --classes 5", new)
    assert "--num-writes does not apply to glyphs" in refused(capsys, "train glyphs --num-writes 2", new)
    assert "--max-length: got 0" in refused(capsys, "train copy --max-length 0", new)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"
    assert "--hidden-size" in refused(capsys, "train copy --steps 1 --hidden-size 0", new)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("glyphs --model lstm --memory-slots 9", "--memory-slots does not apply to lstm, only to mann, ntm"),
        ("glyphs --model feedforward --num-reads 2", "--num-reads does not apply to feedforward"),
        ("glyphs --model ntm --key-strength", "--key-strength does not apply to ntm, only to mann"),
        ("glyphs --model ntm --decay 0.9", "--decay does not apply to ntm"),
        ("glyphs --data x", "--data does not apply to glyphs, only to omniglot"),
        ("copy --model lstm --hidden-size 9", "--hidden-size does not apply to lstm, only to ntm"),
        ("few-shot-glyphs --context-steps 2", "--context-steps does not apply to matching, only to matching-fce"),
        ("few-shot-glyphs --model meta-memory --augmented-blocks 1", "does not apply to meta-memory"),
        ("few-shot-glyphs --inner-steps 2", "--inner-steps does not apply to matching, only to meta-memory"),
        ("few-shot-glyphs --model nonsense --inner-steps 2", "--model: got nonsense"),
    ],
)
def test_settings_of_another_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, said: str
) -> None:
    assert said in refused(capsys, "train", command, "--run", tmp_path / "new")
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


def test_tasks_do_not_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, settings in (("a", f"copy {COPY}"), ("b", f"copy {COPY} --bits 3"), ("c", f"glyphs {SIZES}")):
        assert run(f"train {settings} --steps 0 --no-evaluate --run", tmp_path / name) == 0
    for other in "bc":
        assert "do not compare" in refused(capsys, "evaluate", tmp_path / "a", tmp_path / other)
    assert "--data does not apply" in refused(capsys, "evaluate --data x", tmp_path / "a")
    assert run(f"train few-shot-glyphs {FEW_SHOT} --steps 0 --no-evaluate --run", tmp_path / "d") == 0
    assert "do not compare" in refused(capsys, "evaluate", tmp_path / "c", tmp_path / "d")


def test_a_setting_without_effect_is_refused_of_a_run_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("train glyphs --steps 0 --no-evaluate --run", folder, SIZES) == 0
    before = (folder / "config.json").read_bytes()
    for command in ("train --resume --data x --run", "evaluate --data x"):
        said = refused(capsys, command, folder)
        assert said.startswith("mannkern: --data does not apply to glyphs, only to omniglot")
    assert (folder / "config.json").read_bytes() == before


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'} --threads 1"
    assert "--data" in refused(capsys, "train omniglot", new)
    assert "no Omniglot at" in refused(capsys, "train omniglot --data", tmp_path / "nowhere", new)
    assert "--batch-size: got 0" in refused(capsys, "train --batch-size 0", new)
    for task in ("glyphs", "few-shot-glyphs"):
        one = refused(capsys, f"train {task} --classes 1", new)
        assert "--classes: got 1, need at least 2, else every answer is right" in one
    assert "--curriculum needs --labels strings" in refused(capsys, "train glyphs --curriculum", new)
    assert "an LSTM already" in refused(capsys, "train --model lstm --baseline", new)
    assert "no run at" in refused(capsys, "train --resume", new)
    assert "no run at" in refused(capsys, "evaluate", tmp_path)
    assert "no run and no model at" in refused(capsys, "evaluate", tmp_path / "nowhere")
    assert "--episodes: got 1" in refused(capsys, "train --episodes 1", new)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


@pytest.mark.parametrize(
    "option", ["--length 7 --balanced", "--classes 500", "--hidden-size 0", "--device nonsense", "--backend nonsense"]
)
def test_sizes_and_devices_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    said = refused(capsys, "train glyphs --steps 1 --run", tmp_path / "run", SIZES, option)
    if option.startswith(("--device", "--backend")):
        assert said.startswith(f"mannkern: {option.split()[0]}")
    assert not (tmp_path / "run").exists(), "a refused command leaves nothing"
    assert run("train glyphs --steps 1 --no-evaluate --run", tmp_path / "run", SIZES) == 0, "the mended command runs"


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_folder_whose_name_is_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux takes any bytes as a name, TensorBoard does not."""
    monkeypatch.chdir(tmp_path)
    said = r"mannkern: run\udcff: got a name that is not UTF-8, which TensorBoard cannot write; choose another --run"
    for command in ("train", "table"):
        assert main([command, "glyphs", *SIZES.split(), "--steps", "0", "--run", "run\udcff"]) == 2
        assert "got a name that is not UTF-8" in capsys.readouterr().err.splitlines()[-1]
        assert not any(tmp_path.iterdir()), "a refused command leaves nothing"
    assert run("train glyphs --steps 0 --no-evaluate --run run", SIZES) == 0
    Path("run").rename("run\udcff")
    for arguments in (["train", "--resume", "--run"], ["evaluate"]):
        assert main([*arguments, "run\udcff"]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_folder_that_is_not_omniglot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "images_background" in refused(capsys, "train omniglot --data", tmp_path, "--run", tmp_path / "run")


def test_missing_packages_are_named_with_their_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = options.importlib.util.find_spec
    gone = ("tqdm", "PIL")
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None if name in gone else find(name))
    assert "needs tqdm, PIL: pip install tqdm pillow" in refused(capsys, "train --run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_that_do_not_compare_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, option in (("a", ""), ("b", "--classes 3")):
        assert run("train glyphs --steps 1 --no-evaluate --run", tmp_path / name, SIZES, option) == 0
    assert "do not compare" in refused(capsys, "evaluate", tmp_path / "a", tmp_path / "b")


def test_the_backend_has_to_be_that_of_the_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "train glyphs --model ntm --backend triton --run", tmp_path / "run", SIZES)
    assert said.startswith("mannkern: --backend: got 'triton', need another: ")
    assert "no kernels for 'ntm'" in said


def test_a_backend_of_the_environment_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANNKERN_BACKEND", "nonsense")
    said = refused(capsys, "train glyphs --run", tmp_path / "run", SIZES)
    assert said.startswith("mannkern: MANNKERN_BACKEND: got 'nonsense', need 'auto' or one of ")
    assert not (tmp_path / "run").exists(), "a refused command leaves nothing"


@pytest.mark.skipif(os.name != "posix", reason="Windows has neither pipes nor links that anybody may make")
@pytest.mark.parametrize(
    "option", ["verify --list --json", "bench --batch-size 2 --json", "bench --batch-size 2 --plot"]
)
def test_results_replace_no_link_and_no_device(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As root, ``--json /dev/null`` made a file of the device for the whole system."""
    pipe, link, gone, file = (tmp_path / f"{name}.png" for name in ("pipe", "link", "gone", "file"))
    file.write_text("mine")
    os.mkfifo(pipe)
    link.symlink_to(file)
    gone.symlink_to(tmp_path / "nothing")
    name = option.rpartition("--")[2]
    assert refused(capsys, option, pipe) == f"mannkern: --{name}: got {pipe}, need a regular file"
    for path in (link, gone):
        assert refused(capsys, option, path) == f"mannkern: --{name}: got {path}, a link, need a regular file"
    assert file.read_text() == "mine"
    with pytest.raises(CommandError, match=r"^--json: got /dev/null, need a regular file$"):
        check_file("json", Path("/dev/null"))
    check_file("json", file)
