"""The runs behind docs/results.md besides those of Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Other = tuple[str, str, int, float, dict[str, Any], int]
"""The fields of a ``Planned``: study, row, seed, minutes, settings, episodes."""

OMNIGLOT: dict[str, Any] = {"task": "omniglot", "validation_episodes": 500, "validate_every": 500, "log_every": 100}
STRINGS: dict[int, dict[str, Any]] = {  # by the number of classes, as in Table 2
    5: {"labels": "strings"},
    15: {"labels": "strings", "classes": 15, "length": 100, "balanced": False},
}
TABLE_2: dict[str, tuple[int, float, float, dict[str, Any]]] = {  # steps, minutes with 5 and with 15 classes, settings
    "MANN": (100_000, 90, 180, {}),
    "LSTM": (100_000, 70, 140, {"model": "lstm"}),
    "MANN, feed-forward": (100_000, 80, 160, {"controller": "feedforward"}),
    "MANN, NTM addressing": (35_000, 90, 180, {"model": "ntm"}),
    "feed-forward": (20_000, 3, 6, {"model": "feedforward"}),
}
CURRICULUM = STRINGS[5] | {"classes": 15, "length": 150, "curriculum": True}
CURRICULUM_STEPS = 53_750  # one class more each 10,000 episodes, from 15 to 100, and 10,000 with 100 classes
PERSISTENT: dict[str, Any] = {"classes": 10, "length": 75, "balanced": False}
FUNCTIONS = {1: 50, 2: 100, 3: 100}  # points of a function, by its variables


def others() -> Iterator[Other]:
    """These runs, in the order in which they are carried out: those of minutes first."""
    yield from _neighbours()
    yield "autoencoder", "kNN, autoencoder", 0, 5, {"task": "autoencoder-omniglot", "steps": 20_000}, 2000
    yield from _functions(0)
    yield from _persistent()
    yield from _table_2("MANN", 5)
    yield from _table_2("LSTM", 5)
    yield from _table_2("MANN", 15)
    yield from _table_2("LSTM", 15)
    yield "curriculum", "MANN", 0, 300, OMNIGLOT | CURRICULUM | {"steps": CURRICULUM_STEPS}, 1000
    for row in list(TABLE_2)[2:]:
        for classes in STRINGS:
            yield from _table_2(row, classes)


def _neighbours() -> Iterator[Other]:
    for classes, episodes in STRINGS.items():
        settings = {"task": "omniglot", "model": "knn", "neighbours": 1} | episodes
        yield f"strings-{classes}", "kNN, pixels, k = 1", 0, 1, settings, 2000


def _table_2(row: str, classes: int) -> Iterator[Other]:
    steps, *minutes, settings = TABLE_2[row]
    settings = OMNIGLOT | STRINGS[classes] | {"steps": steps} | settings
    yield f"strings-{classes}", row, 0, minutes[list(STRINGS).index(classes)], settings, 2000


def _functions(seed: int) -> Iterator[Other]:
    """Regression on Gaussian processes, the model with a memory beside the one without."""
    for dimensions, length in FUNCTIONS.items():
        for model in ("mann", "lstm"):
            settings = {"task": "gaussian-processes", "dimensions": dimensions, "length": length, "steps": 20_000}
            row = f"{model.upper()}, {dimensions} variable{'s' if dimensions > 1 else ''}"
            yield "gaussian-processes", row, seed, 15 * length / 50, settings | {"model": model}, 2000


def _persistent() -> Iterator[Other]:
    """Figure 3: a memory that is not wiped between episodes, beside one that is."""
    for row, settings in (("not wiped", {"persistent": True}), ("wiped", {})):
        yield "persistent", f"MANN, {row}", 0, 45, OMNIGLOT | PERSISTENT | {"steps": 30_000} | settings, 2000
