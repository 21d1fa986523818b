"""Runs and command lines of earlier versions: files load under today's names, options say theirs."""

import json
from pathlib import Path

import pytest
import torch

from mannkern.experiments.algorithmic.config import CopyConfig
from mannkern.experiments.registry import load_config
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RENAMED, current_names
from tests.commands.calls import COPY, refused, run


def test_names_by_hand() -> None:
    values = {"memory": "ntm", "read_heads": 2, "memory_slots": 6}
    assert current_names(values) == {"model": "ntm", "num_reads": 2, "memory_slots": 6}
    assert current_names(current_names(values)) == current_names(values)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_evaluated_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train copy --num-reads 2 --num-writes 3 --steps 3 --decay-steps 5 --no-evaluate --run", tmp_path, COPY)
    before = {new: old for old, new in RENAMED.items()}
    config = json.loads((tmp_path / "config.json").read_text())
    old = {before.get(name, name): value for name, value in config.items()}
    assert (old["memory"], old["read_heads"], old["write_heads"]) == ("ntm", 2, 3)
    (tmp_path / "config.json").write_text(json.dumps(old))
    state = load_checkpoint(tmp_path)
    assert state is not None
    sums = state.pop("running_sums")
    torch.save({**state, "config": old, "window": sums}, tmp_path / "checkpoint.pt")

    assert load_config(tmp_path) == CopyConfig.from_dict(config)
    assert run("evaluate --episodes 4", tmp_path) == 0
    assert "NTM: 3 steps" in capsys.readouterr().out
    assert run("train --resume --steps 5 --no-evaluate --run", tmp_path) == 0
    resumed = load_checkpoint(tmp_path)
    assert resumed is not None
    assert (resumed["step"], resumed["running_sums"].shape) == (5, sums.shape)
    assert json.loads((tmp_path / "config.json").read_text())["model"] == "ntm"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("glyphs --memory lstm", "mannkern: --memory is now --model: --model lstm"),
        ("copy --read-heads 2", "mannkern: --read-heads is now --num-reads: --num-reads 2"),
        ("copy --write-heads 3", "mannkern: --write-heads is now --num-writes: --num-writes 3"),
    ],
)
def test_an_option_of_an_earlier_version_says_its_new_name(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "train", option, "--run", tmp_path / "new") == said
    assert not (tmp_path / "new").exists()


def test_help_shows_none_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("train copy --help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--memory-slots" in text
    for words in ("--memory ", "--read-heads", "--write-heads"):
        assert words not in text
