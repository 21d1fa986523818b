"""Defaults: where ``--help`` says that they come from, which task has which, and those of a recipe."""

import json
from pathlib import Path

import pytest

from mannkern.commands.runs import new_settings
from tests.commands.calls import EPISODES, SIZES, refused, run


def test_help_of_a_task_shows_what_applies_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for task in ("", "copy", "priority-sort", "few-shot-omniglot"):
        with pytest.raises(SystemExit) as caught:
            run("train", task, "--help")
        assert caught.value.code == 0
        shown[task] = " ".join(capsys.readouterr().out.split())
    for words in ("--max-length", "--num-writes", "(paper) (default: 100)", "--sequences", "{ntm,lstm}"):
        assert words in shown["copy"]
    for words in ("--classes", "--data", "--least-used", "--max-items"):
        assert words not in shown["copy"]
    assert "--answers" in shown["priority-sort"]
    assert "two layers of 100 for the one LSTM of 200) (default: 200)" in shown["priority-sort"]
    for words in ("--shots", "--classes", "--data", "{matching,"):
        assert words in shown["few-shot-omniglot"]
    for words in ("--baseline", "--memory-slots", "--length"):
        assert words not in shown["few-shot-omniglot"]
        assert words in shown[""]
    assert "--classes" in shown[""]
    assert "priority-sort" in shown[""]
    assert "mann, ntm: slots N of the memory" in shown[""]
    assert "ntm: slots N of the memory" in shown["copy"]
    assert "meta-memory: layers of reasoning" in shown["few-shot-omniglot"]


@pytest.mark.parametrize("command", ["", "train", "evaluate"])
def test_help_says_where_defaults_come_from(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    if command == "train":
        for words in ("(paper) (default: 40)", "1e-3 for adam, 1e-4 for rmsprop", "--resume", "(default: 16)"):
            assert words in text
    if command == "evaluate":
        assert "95% interval" in text


def test_a_recipe_gives_the_defaults_of_a_new_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's sums the loss and writes keys; what the command line says comes before it; glyphs have one size."""
    train = f"train glyphs {SIZES} --steps 2 --no-evaluate --recipe paper"
    assert run(train, "--lr 0.5 --run", tmp_path / "mann") == 0
    config = json.loads((tmp_path / "mann" / "config.json").read_text())
    expected = {"recipe": "paper", "loss": "sum", "write": "key", "optimizer": "rmsprop", "lr": 0.5, "clip": 0.0}
    assert {name: config[name] for name in expected} == expected
    assert (config["balanced"], config["image_scale"], config["augment_at"]) == (False, "255", "reduced")
    assert run("train --resume --steps 4 --no-evaluate --run", tmp_path / "mann") == 0
    lstm = f"train glyphs {EPISODES} --steps 2 --no-evaluate --recipe paper --model lstm --run"
    assert run(lstm, tmp_path / "lstm") == 0
    config = json.loads((tmp_path / "lstm" / "config.json").read_text())
    assert (config["loss"], config["write"]) == ("sum", "add"), "an LSTM has no memory to write to"
    assert "--recipe: got mine" in refused(capsys, "train glyphs --recipe mine --run", tmp_path / "none")


def test_a_new_run_keeps_the_rate_that_it_begins_with() -> None:
    """Also where it is the default of its optimizer, so that the default of a later version changes no run."""
    for optimizer, rate in (("muon", 1e-2), ("adam", 1e-3)):
        assert new_settings({"task": "glyphs", "optimizer": optimizer}).lr == rate
