"""The rows of the MANN paper's Tables 1 and 2 (Santoro et al. 2016), measured on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mannkern.experiments.characters import load_split
from mannkern.experiments.one_shot import paper
from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.experiment import chance, test_sampler
from mannkern.experiments.one_shot.pictures import accuracy_of_rows
from mannkern.experiments.one_shot.report import accuracies, evaluate, headline, instances, note, percent
from mannkern.experiments.one_shot.scores import Scores, measure
from mannkern.files import write_json
from mannkern.models import NearestNeighbours
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.drawing import save
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import usable_device
from mannkern.training.tables import side_by_side

TABLE = "table.json"
NEIGHBOURS = (1, 5)
# For the folder of each row that is trained: its name, and the settings in which it differs from the others.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "feedforward": ("feed-forward", {"model": "feedforward", "controller": "lstm"}),
    "lstm": ("LSTM", {"model": "lstm", "controller": "lstm"}),
    "mann-feedforward": ("MANN, feed-forward", {"model": "mann", "controller": "feedforward"}),
    "mann": ("MANN", {"model": "mann", "controller": "lstm"}),
    "ntm": ("MANN, NTM addressing", {"model": "ntm", "controller": "lstm"}),
}


class Row(NamedTuple):
    """A model's scores on unseen classes, and its episodes and minutes of training (None: it does not learn)."""

    name: str
    scores: Scores
    episodes: int | None = None
    minutes: float | None = None


def measure_rows(root: Path, configs: Mapping[str, OneShotConfig], episodes: int) -> list[Row]:
    """Score the nearest neighbours and every trained row, by folder in ``root``, on ``episodes`` unseen episodes.

    Writes ``evaluation.json`` into each row's folder. Raises ``CommandError`` where one has no checkpoint.
    """
    config = next(iter(configs.values()))
    sampler = test_sampler(config, load_split(config, config.original).test, EVALUATION_SEED)
    device = usable_device(config)
    rows = []
    for count in NEIGHBOURS:
        model = NearestNeighbours(sampler.label_size, count=count)
        rows.append(Row(f"kNN, pixels, k = {count}", measure(model, sampler, episodes, device)))
    for folder, row_config in configs.items():
        result = evaluate(root / folder, row_config, episodes)
        seconds = (load_checkpoint(root / folder) or {})["seconds"]
        rows.append(Row(ROWS[folder][0], result.unseen, result.step * row_config.batch_size, seconds / 60))
    return rows


def table(config: OneShotConfig, rows: Sequence[Row]) -> str:
    """Accuracy on unseen classes by instance: a line for each model, one for chance, then the paper's rows."""
    lines = [["model", "episodes", "minutes", *instances()[1:]]]
    for row in rows:
        cost = ["-", "-"] if row.episodes is None else [f"{row.episodes:,}", f"{row.minutes:.1f}"]
        lines.append([row.name, *cost, *accuracies(row.scores)])
    lines.append(["chance", "", "", *[percent(chance(config))] * len(INSTANCES)])
    for name, values in paper.rows(config).items():
        lines.append([f"the paper's {name}", "", "", *(f"{value:.1f}%" for value in values)])
    columns = list(zip(*lines, strict=True))
    about = "episodes and minutes: of training"
    return "\n".join([headline(rows[0].scores), "", *side_by_side(columns), "", about, note(config)])


def write_table(root: Path, config: OneShotConfig, rows: Sequence[Row]) -> list[Path]:
    """Write ``table.json`` and the picture of all rows into ``root``; returns their paths."""
    record: dict[str, Any] = {
        **{name: getattr(config, name) for name in ("task", "split", "classes", "length", "balanced", "labels")},
        "chance": chance(config),
        "rows": [_record(row) for row in rows],
        "paper_percent": {name: dict(zip(map(str, INSTANCES), row)) for name, row in paper.rows(config).items()},
    }
    write_json(root / TABLE, record)
    scores = {row.name: row.scores for row in rows}
    learned = [row.name for row in rows if row.episodes is not None]
    return [root / TABLE, save(accuracy_of_rows(config, scores, learned), root, "table.png")]


def _record(row: Row) -> dict[str, Any]:
    scores = row.scores.to_dict()
    if row.episodes is None:
        del scores["loss"]  # neighbours answer without probabilities
    return {"model": row.name, "training_episodes": row.episodes, "training_minutes": row.minutes, **scores}
