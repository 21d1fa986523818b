"""Records of runs for the tests of the page and of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.science.plan import Planned

SIZES: dict[str, Any] = {
    "task": "glyphs",
    "length": 50,
    "hidden_size": 8,
    "memory_slots": 6,
    "memory_width": 4,
    "num_reads": 2,
    "batch_size": 2,
    "log_every": 2,
    "validate_every": 2,
    "validation_episodes": 4,
    "steps": 4,
}


def record(episodes: int, level: float, study: str = "table-1", row: str = "MANN", seed: int = 0) -> dict[str, Any]:
    """A finished run whose accuracy is ``level`` in the middle and at the end."""
    scores = {"accuracy": level, "interval_95": 0.002, "accuracy_by_instance": {str(k): level for k in range(1, 11)}}
    evaluation = {"unseen": scores, "unseen_augmented": scores}
    curve = [{"episodes": episodes // 2, **scores}, {"episodes": episodes, **scores}]
    names = {"study": study, "row": row, "seed": seed, "finished": True, "settings": {}}
    return names | {"examples": episodes, "curve": curve, "evaluation": evaluation}


def write_record(results: Path, **settings: Any) -> None:
    content = record(**settings)
    file = results / Planned(content["study"], content["row"], content["seed"], 0).name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.json").write_text(json.dumps(content))
