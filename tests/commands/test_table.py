"""``python -m mannkern table``: each row of the paper's table, trained once, measured on the same episodes."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from mannkern.commands.table import _rows
from mannkern.experiments.one_shot.rows import ROWS
from mannkern.experiments.registry import load_config
from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import refused, run

SIZES = (
    "--classes 2 --length 6 --hidden-size 8 --memory-slots 6 --memory-width 4 --num-reads 2 --batch-size 2 "
    "--log-every 2 --validate-every 4 --threads 1"
)
MODELS = ("feed-forward", "LSTM", "MANN, feed-forward", "MANN", "MANN, NTM addressing")


def steps(root: Path) -> list[int]:
    """Where each row stands; -1: it has no checkpoint."""
    states = [load_checkpoint(root / folder) for folder in ROWS]
    return [-1 if state is None else state["step"] for state in states]


def test_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interval needs the deviation of two episodes or more, so ``--episodes 1`` is refused, with exit code 2."""
    message = refused(capsys, "table --episodes 1 --run", tmp_path / "new")
    assert message == "mannkern: --episodes: got 1, need at least 2"
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


def test_every_row_is_trained_measured_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", "figure")  # in full
    root = tmp_path / "deep" / "table"
    assert run("table glyphs --steps 3 --episodes 20 --run", root, SIZES) == 0
    out = capsys.readouterr().out
    assert "20 episodes, ± half a 95% interval" in out
    assert "paper" not in out.split("Evaluating")[1], "the paper has no glyphs"
    lines = [line.strip() for line in out.splitlines()]
    for name in (*MODELS, "kNN, pixels, k = 1", "kNN, pixels, k = 5", "chance"):
        assert sum(line.startswith(name + "  ") for line in lines) == 1, name
    record = json.loads((root / "table.json").read_text())
    assert [row["model"] for row in record["rows"]] == ["kNN, pixels, k = 1", "kNN, pixels, k = 5", *MODELS]
    assert [row["training_episodes"] for row in record["rows"]] == [None, None, 6, 6, 6, 6, 6]
    assert (record["chance"], record["labels"], record["paper_percent"]) == (0.5, "one-hot", {})
    assert "loss" not in record["rows"][0]
    assert (root / "pictures" / "table.png").stat().st_size > 20_000
    assert str(root / "pictures" / "table.png") in out
    for folder, (_, settings) in ROWS.items():
        config = load_config(root / folder)
        assert {name: getattr(config, name) for name in settings} == settings
        scores = json.loads((root / folder / "evaluation.json").read_text())["unseen"]
        row = record["rows"][2 + list(ROWS).index(folder)]
        assert row["accuracy_by_instance"] == scores["accuracy_by_instance"]


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_a_longer_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "table"
    command = f"table glyphs --episodes 4 --run {root} {SIZES}"
    assert run(command, "--steps 2") == 0
    first = capsys.readouterr().out.split("Evaluating")[1]
    train = loop.train
    monkeypatch.setattr(loop, "train", None)  # a second training would call it
    assert run(command, "--steps 2") == 0
    second = capsys.readouterr().out
    assert second.count("trained already, 2 steps") == 5
    assert second.split("Evaluating")[1] == first
    monkeypatch.setattr(loop, "train", train)
    assert run("table --steps 4 --episodes 4 --run", root) == 0
    assert steps(root) == [4] * 5


@pytest.mark.slow
def test_rows_that_reached_the_goal_are_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "table"
    command = f"table glyphs --episodes 4 --run {root} {SIZES}"
    for _ in range(2):
        assert run(command, "--until 0.01 --steps 40") == 0
        assert steps(root) == [4] * 5
    assert capsys.readouterr().out.count("trained already, 4 steps") == 5
    assert run(command, "--until 1 --steps 6") == 0
    assert steps(root) == [6] * 5


def test_a_table_that_was_stopped_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "table"
    train = loop.train

    def stopped(experiment: Any, config: Any, run: Path) -> loop.Outcome:
        outcome = train(experiment, config, run)
        return outcome._replace(signal=2) if run.name == "mann-feedforward" else outcome

    monkeypatch.setattr(loop, "train", stopped)
    assert run("table glyphs --labels strings --steps 3 --episodes 4 --run", root, SIZES) == 130
    out = capsys.readouterr().out
    assert "Stopped at step 3; saved. Continue: python -m mannkern table glyphs --run" in out
    assert "Evaluating" not in out
    assert steps(root) == [3, 3, 3, -1, -1]
    monkeypatch.setattr(loop, "train", train)
    assert run("table glyphs --episodes 4 --run", root) == 0
    assert steps(root) == [3] * 5
    record = json.loads((root / "table.json").read_text())
    assert (record["labels"], record["chance"]) == ("strings", 1 / 3125), "settings come from the rows that began"


@pytest.mark.slow
def test_other_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "table"
    assert run("table glyphs --steps 1 --episodes 4 --run", root, SIZES) == 0
    assert "--hidden-size 8, not 9" in refused(capsys, "table glyphs --hidden-size 9 --run", root)
    assert "--labels one-hot, not strings" in refused(capsys, "table --labels strings --run", root)
    assert "task glyphs, not omniglot" in refused(capsys, "table omniglot --run", root)
    (root / "notes.txt").write_text("mine")
    sizes = SIZES.replace("--hidden-size 8", "--hidden-size 9")
    assert run("table glyphs --overwrite --steps 2 --episodes 4 --run", root, sizes) == 0
    assert steps(root) == [2] * 5
    assert (root / "notes.txt").exists()


def test_a_row_trained_otherwise_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "table"
    assert run("table glyphs --steps 1 --episodes 4 --run", root, SIZES) == 0
    path = root / "mann" / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert f"{root / 'mann'} was trained with --seed 1, not 0" in refused(capsys, "table --run", root)


def test_a_row_keeps_the_threads_that_it_began_with(tmp_path: Path) -> None:
    """Those that are asked for now are all rows'; without, rows that have not begun take torch's number."""
    for folder, threads in (("feedforward", 1), ("lstm", 2)):
        run("train glyphs --steps 0 --no-evaluate --model mann --run", tmp_path / folder, SIZES, "--threads", threads)
        path = tmp_path / folder / "config.json"
        path.write_text(path.read_text().replace('"model": "mann"', f'"model": "{folder}"'))
    for asked, rest in (({}, None), ({"threads": 3}, 3)):
        configs, begun_rows = _rows(tmp_path, asked, overwrite=False)
        assert begun_rows == ["feedforward", "lstm"]
        wanted = dict.fromkeys(ROWS, rest) | ({} if asked else {"feedforward": 1, "lstm": 2})
        assert {folder: config.threads for folder, config in configs.items()} == wanted


def test_settings_without_effect_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As ``train`` refuses them, in a new table and in one that goes on."""
    said = "mannkern: --data does not apply to glyphs, only to omniglot"
    new = f"--steps 0 --run {tmp_path / 'new'} {SIZES}"
    assert said in refused(capsys, "table --data x --split alphabets", new)
    assert "--split does not apply" in refused(capsys, "table --split alphabets", new)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"
    assert run("train glyphs --steps 0 --no-evaluate --run", tmp_path / "feedforward", SIZES, "--model mann") == 0
    path = tmp_path / "feedforward" / "config.json"
    path.write_text(path.read_text().replace('"model": "mann"', '"model": "feedforward"'))
    assert said in refused(capsys, "table --data x --run", tmp_path)


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'} --threads 1"
    assert "--data" in refused(capsys, "table omniglot", new)
    assert "no Omniglot at" in refused(capsys, "table omniglot --data", tmp_path / "nowhere", new)
    assert "--batch-size: got 0" in refused(capsys, "table --batch-size 0", new)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"
    (tmp_path / "file").write_text("x")
    assert "no table" in refused(capsys, "table --run", tmp_path)
    assert "is a file" in refused(capsys, "table --run", tmp_path / "file")
    root = tmp_path / "new"
    assert "multiple" in refused(capsys, "table glyphs --steps 1 --run", root, SIZES, "--length 7 --balanced")
    assert run("table glyphs --steps 1 --episodes 4 --run", root, SIZES) == 0, "the mended command runs"


def test_help_leaves_out_what_the_rows_differ_in(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("table --help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("--minutes", "--labels", "--balanced", "--hidden-size", "Table 2"):
        assert words in text
    for words in ("--controller", "--baseline", "--curriculum", "--model "):
        assert words not in text
