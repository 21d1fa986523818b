"""The few-shot tasks on the command line: trained, resumed, evaluated, refused."""

from pathlib import Path

import pytest

from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import FEW_SHOT, refused, run


def test_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A MANN takes no support set, so ``--model mann`` is refused; the line names the models that do."""
    message = refused(capsys, "train few-shot-glyphs --model mann --run", tmp_path / "new")
    models = "matching, matching-fce, meta-networks, meta-memory"
    assert message == f"mannkern: --model: got mann, need one of {models}"
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["matching", "matching-fce", "meta-networks", "meta-memory"])
def test_few_shot_trains_resumes_and_is_evaluated(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run("train few-shot-glyphs --steps 4 --model", model, "--run", folder, FEW_SHOT) == 0
    trained = capsys.readouterr().out
    for words in (f"{model.upper()} on few-shot-glyphs", "4 steps, 8 episodes", "2-way 2-shot", "chance", "50.0%"):
        assert words in trained
    for name in ("learning_curve", "episode"):
        assert str(folder / "pictures" / f"{name}.png") in trained
        assert (folder / "pictures" / f"{name}.png").exists()
    assert run("evaluate --episodes 20", folder) == 0
    rows = [line for line in trained.splitlines() if "classes" in line and "±" in line and "accuracy" not in line]
    assert len(rows) == 2
    evaluated = capsys.readouterr().out
    assert all(row in evaluated for row in rows), "the same episodes, the same numbers"
    assert "--shots 2, not 1" in refused(capsys, "train few-shot-glyphs --resume --shots 1 --run", folder)
    assert run("train few-shot-glyphs --resume --steps 6 --no-evaluate --run", folder) == 0
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint["step"] == 6
    assert run("train few-shot-glyphs --overwrite --steps 0 --no-evaluate --run", folder, FEW_SHOT) == 0
    assert not (folder / "evaluation.json").exists()


def test_what_few_shot_tasks_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'}"
    for option in ("baseline", "memory-slots 3", "memory-init uniform", "decay 0.9"):
        said = refused(capsys, f"train few-shot-glyphs --{option}", new)
        assert f"--{option.split()[0]} does not apply to few-shot-glyphs" in said
    assert "few-shot-omniglot needs its folder: --data" in refused(capsys, "train few-shot-omniglot", new)
    nowhere = f"train few-shot-omniglot --data {tmp_path / 'nowhere'}"
    assert "no Omniglot at" in refused(capsys, nowhere, new)
    assert "--queries does not apply to glyphs" in refused(capsys, "train glyphs --queries 2", new)
    assert not (tmp_path / "new").exists(), "a refused command leaves nothing"
    assert "--classes: got 99, need at most 24" in refused(capsys, "train few-shot-glyphs --classes 99", new)
    assert "backend" in refused(capsys, "train few-shot-glyphs --classes 2 --backend nonsense", new)
