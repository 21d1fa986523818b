"""The command line: what it prints, what it leaves behind, and how a run goes on."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator

from mannkern.experiments.one_shot import report
from mannkern.tasks import glyphs
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import COPY, EPISODES, SIZES, refused, run


def test_example(tmp_path: Path) -> None:
    """A run that is logged every 2 steps and validated every 4 has, after 4 steps, metrics of steps 2, 4 and 4."""
    assert run("train glyphs --steps 4 --no-evaluate --run", tmp_path, SIZES) == 0
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in metrics] == [2, 4, 4]


def test_train_evaluates_draws_and_leaves_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "run"
    assert run("train glyphs --steps 5 --run", folder, SIZES) == 0
    out = capsys.readouterr().out
    for word in ("1st", "2nd", "chance", "MANN: 5 steps, 10 episodes", "never seen in training"):
        assert word in out
    for name in ("learning_curve", "accuracy_by_instance", "memory"):
        path = folder / "pictures" / f"{name}.png"
        assert str(path) in out
        assert path.exists()
    names = {path.name for path in folder.iterdir()}
    checkpoints = {"checkpoint.pt", "checkpoint.previous.pt"}
    assert names == {"config.json", "metrics.jsonl", "evaluation.json", "pictures", "tensorboard"} | checkpoints
    record = json.loads((folder / "evaluation.json").read_text())
    assert (record["step"], record["chance"], record["unseen"]["episodes"]) == (5, 0.5, 20)
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"learning_curve", "accuracy_by_instance", "memory"}
    assert events.Images("memory")[0].step == 5
    assert {"train_layer/head", "train_layer/recurrent.cell.controller"} <= set(events.Tags()["scalars"])


def test_training_ends_at_its_goal_and_says_what_was_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train glyphs", SIZES, f"--run {tmp_path / 'a'} --steps 20 --until 0.01") == 0
    assert load_checkpoint(tmp_path / "a")["step"] == 4  # type: ignore[index]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The model ")
    assert "chance is 50.0%" in last
    for options, step in (("", 4), ("--until 1 --steps 6", 6)):
        assert run("train --resume --no-evaluate --run", tmp_path / "a", options) == 0
        assert load_checkpoint(tmp_path / "a")["step"] == step  # type: ignore[index]
    assert refused(capsys, "train glyphs --until 1.5") == (
        "mannkern: --until: got 1.5, need an accuracy above 0, at most 1"
    )


def test_a_run_is_neither_lost_nor_resumed_by_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train = f"train glyphs --steps 3 --run {folder} {SIZES} --no-evaluate"
    assert run(train) == 0
    assert "--resume continues it, --overwrite deletes it" in refused(capsys, train)
    (folder / "notes.txt").write_text("mine")
    assert run(train, "--overwrite --seed 5") == 0
    assert (folder / "notes.txt").exists()
    assert json.loads((folder / "config.json").read_text())["seed"] == 5


def test_overwrite_deletes_no_folder_that_holds_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoint.pt").write_text("of something else")
    assert "no run" in refused(capsys, "train --overwrite --run", tmp_path)
    assert (tmp_path / "checkpoint.pt").read_text() == "of something else"


def test_resuming_takes_the_settings_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("train glyphs --steps 3 --no-evaluate --run", folder, SIZES) == 0
    message = refused(capsys, "train --resume --hidden-size 9 --run", folder)
    assert "--hidden-size 8, not 9" in message
    assert "task glyphs, not omniglot" in refused(capsys, "train omniglot --resume --run", folder)
    said = refused(capsys, "train --resume --lr 1e-3 --run", folder)
    assert "was trained with --lr 0.01, not 0.001; leave the option out" in said, "the default of its optimizer"
    assert run("train --resume --steps 6 --hidden-size 8 --lr 1e-2 --no-evaluate --run", folder) == 0
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint["step"] == 6
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [2, 4, 4, 6, 6]


def test_a_run_killed_before_its_first_checkpoint_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train glyphs --steps 3 --no-evaluate --run", folder, SIZES) == 0
    (folder / "checkpoint.pt").unlink()
    assert run("train --resume --no-evaluate --run", folder) == 0
    assert load_checkpoint(folder) is not None


@pytest.mark.slow
def test_the_baseline_stands_beside_the_mann(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("train glyphs --baseline --steps 4 --run", folder, SIZES) == 0
    trained = capsys.readouterr().out
    assert "LSTM: 4 steps" in trained
    assert run("evaluate --episodes 20", folder) == 0
    evaluated = capsys.readouterr().out
    assert [line.split() for line in evaluated.splitlines() if "instance" in line][1] == [
        "instance", "MANN", "LSTM", "chance",
    ]  # fmt: skip
    rows = [line for line in trained.splitlines() if "±" in line and "st " in line]
    assert rows
    assert all(row in evaluated for row in rows), "the same episodes, the same numbers"
    assert (folder / "lstm" / "evaluation.json").exists()
    assert run("train --resume --steps 6 --no-evaluate --run", folder) == 0
    for part in (folder, folder / "lstm"):
        checkpoint = load_checkpoint(part)
        assert checkpoint is not None
        assert checkpoint["step"] == 6


@pytest.mark.parametrize("note", [False, True])
def test_overwrite_leaves_no_baseline_to_evaluate(
    tmp_path: Path, note: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder goes too, unless it holds a file of the user's; it is no run then."""
    folder = tmp_path / "run"
    assert run("train glyphs --baseline --steps 2 --no-evaluate --run", folder, SIZES) == 0
    if note:
        (folder / "lstm" / "notes.txt").write_text("mine")
    assert run("train glyphs --overwrite --steps 1 --no-evaluate --run", folder, SIZES) == 0
    assert (folder / "lstm").exists() == note
    assert run("evaluate --episodes 4", folder) == 0
    assert "LSTM: " not in capsys.readouterr().out


@pytest.mark.slow
def test_strings_are_trained_evaluated_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("train glyphs --labels strings --steps 2 --run", folder, SIZES, "--length 7 --no-balanced") == 0
    out = capsys.readouterr().out
    assert "0.03%" in out
    assert json.loads((folder / "evaluation.json").read_text())["chance"] == 1 / 3125
    assert run("evaluate --episodes 20", folder) == 0
    assert "--labels strings, not one-hot" in refused(capsys, "train --labels one-hot --resume --run", folder)


def test_a_curriculum_is_evaluated_by_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MANY_CLASSES", (3, 4))
    folder = tmp_path / "run"
    assert run("train glyphs --labels strings --curriculum --steps 2 --run", folder, SIZES) == 0
    out = capsys.readouterr().out
    assert "MANN, trained on 2 to 2 classes, by classes in an episode" in out
    assert str(folder / "pictures" / "accuracy_by_classes.png") in out
    record = json.loads((folder / "evaluation.json").read_text())["unseen_by_classes"]
    assert {classes: scores["episodes"] for classes, scores in record.items()} == {"2": 20, "3": 13, "4": 10}


@pytest.mark.slow
def test_copy_trains_resumes_and_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("train copy --baseline --steps 4 --decay-steps 6 --sequences 4 --run", folder, COPY) == 0
    trained = capsys.readouterr().out
    for words in ("NTM on copy", "LSTM: 4 steps, 8 sequences of training", "larger than any in training", "120*"):
        assert words in trained
    for name in ("learning_curve", "bits_by_size", "sequence-3", "sequence-120"):
        assert str(folder / "pictures" / f"{name}.png") in trained
        assert (folder / "pictures" / f"{name}.png").exists()
    assert run("evaluate --episodes 4", folder) == 0
    evaluated = capsys.readouterr().out
    rows = [line for line in trained.splitlines() if line.count("±") == 2]
    assert len(rows) == 6
    assert all(row in evaluated for row in rows), "the same sequences, the same numbers"
    for part in (folder, folder / "lstm"):
        assert json.loads((part / "evaluation.json").read_text())["sizes"][-1]["size"] == [120]
    assert "--max-length 3, not 4" in refused(capsys, "train --resume --max-length 4 --run", folder)
    assert "task copy, not ngrams" in refused(capsys, "train ngrams --resume --run", folder)
    assert "--classes does not apply" in refused(capsys, "train --resume --classes 4 --run", folder)
    assert run("train copy --resume --steps 6 --no-evaluate --max-length 3 --run", folder) == 0
    for part in (folder, folder / "lstm"):
        checkpoint = load_checkpoint(part)
        assert checkpoint is not None
        assert checkpoint["step"] == 6
    assert run("train copy --overwrite --steps 0 --no-evaluate --run", folder, COPY) == 0
    assert not (folder / "lstm" / "evaluation.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "sizes"),
    [
        ("repeat-copy", "--max-length 2 --max-repeats 2"),
        ("associative-recall", "--max-items 3 --vectors 1"),
        ("ngrams", "--length 12"),
        ("priority-sort", "--vectors 4 --answers 2"),
    ],
)
def test_every_task_trains_is_evaluated_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, sizes: str
) -> None:
    small = "--hidden-size 4 --memory-slots 6 --memory-width 3 --batch-size 2 --threads 1 --sequences 4 --steps 2"
    assert run(f"train {task} {sizes} {small} --run", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert f"NTM on {task}" in out
    assert ("optimal" in out) == (task == "ngrams")
    drawn = [Path(line) for line in out.splitlines() if line.endswith(".png")]
    assert len(drawn) >= 2
    assert all(path.exists() for path in drawn)


@pytest.mark.parametrize(("model", "sizes"), [("ntm", SIZES), ("feedforward", EPISODES)])
def test_other_models_train_and_are_drawn(
    model: str, sizes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train glyphs --steps 2 --run", tmp_path / "run", f"--model {model}", sizes) == 0
    assert model.upper() in capsys.readouterr().out
    assert (tmp_path / "run" / "pictures" / "memory.png").exists() == (model == "ntm")
    assert run("train --steps 3 --no-evaluate --resume --run", tmp_path / "run") == 0


def test_few_episodes_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train glyphs --steps 1 --run", tmp_path / "run", SIZES) == 0
    assert "20 episodes are too few" in capsys.readouterr().err


def test_an_interrupt_elsewhere_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(glyphs, "load", interrupt)
    assert run("train glyphs --run", tmp_path / "run", SIZES) == 130


def test_a_falling_learning_rate_resumes_bit_for_bit(tmp_path: Path) -> None:
    """The steps of its fall are those the run began with, also where it resumes with other --steps."""
    train = f"train glyphs {SIZES} --lr-decay linear --no-evaluate"
    assert run(train, "--steps 6 --run", tmp_path / "whole") == 0
    assert run(train, "--decay-steps 6 --steps 3 --run", tmp_path / "parts") == 0
    assert run("train --resume --steps 6 --no-evaluate --run", tmp_path / "parts") == 0
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["decay_steps"] == 6
    states = [load_checkpoint(tmp_path / name) for name in ("whole", "parts")]
    assert all(state is not None and state["step"] == 6 for state in states)
    one, other = (state["model"] for state in states if state is not None)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert states[0]["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-2 / 6)


def test_a_rate_that_has_fallen_trains_no_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More steps would change no parameter, so --resume refuses them, and the advice is another run."""
    assert run(f"train glyphs {SIZES} --lr-decay linear --steps 3 --run", tmp_path) == 0
    assert "Its learning rate has fallen to 0: more training is another run" in capsys.readouterr().out
    said = refused(capsys, "train --resume --steps 4 --run", tmp_path)
    assert "--steps: got 4, need at most 3, where the run's learning rate has fallen to 0" in said
    assert run("train --resume --steps 2 --no-evaluate --run", tmp_path) == 0, "fewer are no more"


def test_queries_last_are_trained_evaluated_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--shots`` sets the length; only the queries count, and tables and pictures are of them."""
    sizes = SIZES.replace("--length 6 ", "")
    assert run("train glyphs --shots 2 --steps 4 --run", tmp_path / "run", sizes) == 0
    out = capsys.readouterr().out
    assert "accuracy on the queries, 2-way 2-shot: 20 episodes" in out
    assert "at the queries of an unseen class it is right in " in out
    assert "learning_curve.png" in out
    assert "accuracy_by_instance" not in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["length"] == 6
    shown = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["accuracy_by_instance"]
    assert [name for name, value in shown.items() if value is not None] == ["3"]
    assert run("train --resume --steps 5 --no-evaluate --run", tmp_path / "run") == 0
    assert run(f"train glyphs {sizes} --shots 1 --until 0.01 --steps 9 --no-evaluate --run", tmp_path / "goal") == 0
    assert load_checkpoint(tmp_path / "goal")["step"] == 4  # type: ignore[index]
    new = f"train glyphs {sizes} --run {tmp_path / 'new'}"
    assert "--length: got 8, need 4 with --shots 1" in refused(capsys, new, "--shots 1 --length 8")
    assert "--shots: got 0, need at least 1" in refused(capsys, new, "--shots 0")
    assert "--shots does not go with --curriculum" in refused(capsys, new, "--shots 1 --labels strings --curriculum")


def test_a_rate_that_falls_sets_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that no step trains at a rate of 0, and a run that resumes with --minutes alone knows where it ends."""
    new = f"train glyphs {SIZES} --lr-decay linear --no-evaluate"
    said = refused(capsys, new, "--decay-steps 5 --steps 9 --run", tmp_path / "refused")
    assert "--decay-steps: got 5, need at least --steps = 9: a learning rate that has fallen to 0 trains no" in said
    for name, options in (("steps", "--decay-steps 2"), ("minutes", "--decay-steps 2 --minutes 1")):
        assert run(new, options, "--run", tmp_path / name) == 0
        assert load_checkpoint(tmp_path / name)["step"] == 2  # type: ignore[index]
    assert run(new, "--decay-steps 4 --steps 2 --run", tmp_path / "resumed") == 0
    config = json.loads((tmp_path / "resumed" / "config.json").read_text())
    (tmp_path / "resumed" / "config.json").write_text(json.dumps(config | {"steps": None}))
    assert run("train --resume --minutes 1 --no-evaluate --run", tmp_path / "resumed") == 0
    assert load_checkpoint(tmp_path / "resumed")["step"] == 4  # type: ignore[index]
