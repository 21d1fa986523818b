"""The printed table: ours, then chance and the paper's rows, which are called the paper's."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mannkern.experiments.one_shot import paper
from mannkern.experiments.one_shot import rows as rows_module
from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.rows import Row, measure_rows, table, write_table
from mannkern.experiments.one_shot.scores import Scores
from mannkern.tasks import CharacterSplit, glyphs

TABLE_1 = OneShotConfig(task="omniglot")
TABLE_2 = OneShotConfig(task="omniglot", labels="strings", classes=15, length=100, balanced=False)


def rows(level: float = 0.8) -> list[Row]:
    scores = Scores(1000, 1.0, level, [level] * 10, [0.01] * 10)
    return [Row("kNN, pixels, k = 1", scores), Row("MANN", scores, 1600, 2.0)]


def test_example() -> None:
    """An accuracy of 0.8 is printed as 80.0%; among 5 classes chance is 20.0%; the paper's rows come last."""
    lines = [line.strip() for line in table(TABLE_1, rows()).splitlines()]
    top = lines.index(next(line for line in lines if line.startswith("model")))
    assert lines[top].split() == ["model", "episodes", "minutes", "1st", "2nd", "3rd", "4th", "5th", "10th"]
    assert lines[top + 1].split()[:8] == ["kNN,", "pixels,", "k", "=", "1", "-", "-", "80.0%"]
    assert lines[top + 2].split()[:6] == ["MANN", "1,600", "2.0", "80.0%", "±", "1.0%"]
    assert lines[top + 3].split() == ["chance", *["20.0%"] * 6]
    assert all(line.startswith("the paper's ") for line in lines[top + 4 : top + 8])
    assert lines[top + 7].split() == ["the", "paper's", "MANN", "36.4%", "82.8%", "91.0%", "92.6%", "94.9%", "98.1%"]
    assert "rows" not in table(TABLE_1, rows())


def test_a_row_has_the_episodes_and_minutes_of_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 steps of 16 episodes in 90 seconds. The neighbours see the unseen classes, and learn nothing."""
    scores, sampled = rows()[0].scores, []
    split = CharacterSplit(*(torch.full((5, 20, 20, 20), ink, dtype=torch.uint8) for ink in (100, 200)))
    monkeypatch.setattr(glyphs, "load", lambda: split)
    monkeypatch.setattr(rows_module, "measure", lambda model, sampler, *_: sampled.append(sampler) or scores)
    monkeypatch.setattr(rows_module, "evaluate", lambda *_: SimpleNamespace(unseen=scores, step=10))
    monkeypatch.setattr(rows_module, "load_checkpoint", lambda run: {"seconds": 90.0})
    *neighbours, mann = measure_rows(tmp_path, {"mann": OneShotConfig(image_scale="255")}, 5)
    assert mann == Row("MANN", scores, 160, 1.5)
    assert neighbours == [Row(f"kNN, pixels, k = {k}", scores) for k in (1, 5)]
    assert (255 * sampled[0].sample(1, 0).inputs[..., :400].max()).round() == 200


@pytest.mark.parametrize("config", [TABLE_1, TABLE_2])
def test_the_paper_is_apart_in_the_record(config: OneShotConfig, tmp_path: Path) -> None:
    paths = write_table(tmp_path, config, rows())
    assert [path.name for path in paths] == ["table.json", "table.png"]
    record = json.loads(paths[0].read_text())
    assert [row["model"] for row in record["rows"]] == ["kNN, pixels, k = 1", "MANN"]
    assert record["rows"][1]["accuracy_by_instance"]["2"] == 0.8
    assert set(record["paper_percent"]["MANN"]) == {str(k) for k in INSTANCES}
    assert record["chance"] == (0.2 if config is TABLE_1 else 1 / 3125)


def test_the_paper_has_rows_for_its_own_episodes_only() -> None:
    assert paper.rows(TABLE_2)["MANN"][1] == 62.6
    curriculum = replace(TABLE_2, length=150, balanced=True, curriculum=True)
    for config in (OneShotConfig(), OneShotConfig(task="omniglot", classes=15, length=150), curriculum):
        assert paper.rows(config) == {}
    for known in paper.ROWS.values():
        assert all(len(row) == len(INSTANCES) for row in known.values())
