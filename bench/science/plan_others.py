"""The runs behind docs/results.md besides those of Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Other = tuple[str, str, int, float, dict[str, Any], int]
"""The fields of a ``Planned``: study, row, seed, minutes, settings, episodes."""

OMNIGLOT: dict[str, Any] = {"task": "omniglot", "validation_episodes": 500, "validate_every": 500, "log_every": 100}
STRINGS: dict[int, dict[str, Any]] = {  # by the number of classes, as in Table 2
    5: {"labels": "strings"},
    15: {"labels": "strings", "classes": 15, "length": 100},
}
MUON: dict[str, Any] = {"optimizer": "muon", "lr": 1e-2, "lr_decay": "linear"}
TABLE_2: dict[str, tuple[float, float, dict[str, Any]]] = {  # minutes with 5 and with 15 classes, settings
    "MANN": (15, 25, {}),
    "MANN, ten of each": (15, 25, {"balanced": True}),
    "LSTM": (13, 25, {"model": "lstm"}),
    "MANN, feed-forward": (13, 25, {"controller": "feedforward"}),
    "MANN, NTM addressing": (35, 70, {"model": "ntm"}),
    "feed-forward": (1, 2, {"model": "feedforward"}),
}
TABLE_2_STEPS = 12_500  # 200,000 episodes
CURRICULUM = STRINGS[5] | {"classes": 15, "length": 150, "curriculum": True, "balanced": True}
CURRICULUM_STEPS = 53_750  # one class more each 10,000 episodes, from 15 to 100, and 10,000 with 100 classes
PERSISTENT: dict[str, Any] = {"classes": 10, "length": 75}
NTM: dict[str, tuple[int, float, int, dict[str, Any]]] = {  # seeds, minutes, steps, settings
    "NTM, copy": (5, 2, 3000, {"task": "copy"}),
    "NTM, copy, equal slots": (5, 2, 3000, {"task": "copy", "memory_init": 1e-6}),
    "NTM, copy, constant lr": (5, 2, 3000, {"task": "copy", "lr_decay": "none"}),
    "NTM, copy, RMSProp": (
        5,
        8,
        100_000,
        {"task": "copy", "optimizer": "rmsprop", "lr_decay": "none", "batch_size": 4},
    ),
    "NTM, associative recall": (5, 2, 6000, {"task": "associative-recall"}),
    "NTM, repeat copy": (5, 6, 12_000, {"task": "repeat-copy"}),
    "NTM, N-grams": (3, 7, 6000, {"task": "ngrams"}),
    "NTM, N-grams, lr 1e-3": (3, 7, 6000, {"task": "ngrams", "lr": 1e-3}),
    "NTM, priority sort": (1, 25, 24_000, {"task": "priority-sort"}),
    "LSTM, copy": (1, 30, 10_000, {"task": "copy", "model": "lstm"}),
    "LSTM, N-grams": (1, 12, 6000, {"task": "ngrams", "model": "lstm"}),
    "LSTM, associative recall": (1, 30, 6000, {"task": "associative-recall", "model": "lstm"}),
}
MATCHING: dict[str, Any] = MUON | {
    "task": "few-shot-omniglot",
    "model": "matching",
    "drawing_side": 28,
    "validate_every": 250,
    "log_every": 50,
}
TWENTY_FIVE = {"classes": 20, "shots": 5, "batch_size": 4, "steps": 4000}
META: dict[str, Any] = MATCHING | {
    "model": "meta-networks",
    "blocks": 5,
    "augmented_blocks": 5,
    "batch_size": 4,
    "queries": 5,
}
LAST_TWO = {"augmented_blocks": 0, "batch_size": 8}
FEW_SHOT: dict[str, tuple[float, dict[str, Any]]] = {  # minutes, settings
    "Matching Networks, 5-way 1-shot": (20, MATCHING | {"steps": 8000}),
    "Matching Networks, 20-way 1-shot": (28, MATCHING | {"classes": 20, "steps": 3000}),
    "Matching Networks, 5-way 5-shot": (22, MATCHING | {"shots": 5, "steps": 3000}),
    "Matching Networks, 20-way 5-shot": (30, MATCHING | TWENTY_FIVE | {"strength": 20.0}),
    "Matching Networks, 20-way 5-shot, strength 10": (30, MATCHING | TWENTY_FIVE),
    "Meta Networks, 5-way 1-shot": (120, META | {"steps": 2250}),
    "Meta Networks, 20-way 1-shot": (65, META | {"classes": 20, "queries": 2, "batch_size": 1, "steps": 3000}),
    "Meta Networks, 5-way 1-shot, fast weights in two layers": (
        20,
        META | LAST_TWO | {"steps": 2000},
    ),
    "Meta Networks, 5-way 1-shot, fast weights in two layers, for longer": (70, META | LAST_TWO | {"steps": 6000}),
    "Meta Networks, 5-way 1-shot, fast weights in two layers, for longest": (
        115,
        META | LAST_TWO | {"steps": 14_000},
    ),
    "Meta Networks, 20-way 1-shot, fast weights in two layers": (
        60,
        META | LAST_TWO | {"classes": 20, "queries": 2, "batch_size": 4, "steps": 5000},
    ),
    "Meta Networks, 20-way 1-shot, fast weights in two layers, for longer": (
        120,
        META | LAST_TWO | {"classes": 20, "queries": 2, "batch_size": 4, "steps": 10_000},
    ),
    "Meta Networks, 5-way 5-shot, loss of pairs": (57, META | {"shots": 5, "pairs": True, "steps": 1000}),
}
THREE_SEEDS = (  # of FEW_SHOT: what the papers have, and what reached their figures; the others are trials of one seed
    "Matching Networks, 5-way 1-shot",
    "Matching Networks, 20-way 1-shot",
    "Matching Networks, 5-way 5-shot",
    "Matching Networks, 20-way 5-shot",
    "Meta Networks, 5-way 1-shot",
    "Meta Networks, 20-way 1-shot, fast weights in two layers, for longer",
)
MORE_FAMILIES: dict[str, tuple[float, dict[str, Any]]] = {
    "meta-memory network, 5-way by descriptions": (8, MUON | {"task": "zero-shot-omniglot", "steps": 4000}),
    "meta-memory network, 5-way by descriptions without the alphabet": (
        8,
        MUON | {"task": "zero-shot-omniglot", "alphabet": False, "steps": 4000},
    ),
    "meta-memory network, three families": (20, MUON | {"task": "families-omniglot", "steps": 4000}),
}
FUNCTIONS = {1: 50, 2: 100, 3: 100}  # points of a function, by its variables


def others() -> Iterator[Other]:
    """These runs, in the order in which they are carried out: those of minutes first."""
    yield from _neighbours()
    yield "autoencoder", "kNN, autoencoder", 0, 5, {"task": "autoencoder-omniglot", "steps": 20_000}, 2000
    for row, (seeds, minutes, steps, settings) in NTM.items():
        yield from (("ntm", row, seed, minutes, settings | {"steps": steps}, 1000) for seed in range(seeds))
    yield from _functions(0)
    yield from _persistent()
    yield from _table_2("MANN", 5)
    yield from _table_2("MANN, ten of each", 5)
    yield from _table_2("LSTM", 5)
    yield from _table_2("MANN", 15)
    yield from _table_2("LSTM", 15)
    sooner = {"curriculum_episodes": 1000, "steps": CURRICULUM_STEPS // 10}
    yield "curriculum", "MANN, 1,000 episodes", 0, 40, OMNIGLOT | MUON | CURRICULUM | sooner, 1000
    yield "curriculum", "MANN", 0, 300, OMNIGLOT | MUON | CURRICULUM | {"steps": CURRICULUM_STEPS}, 1000
    for row in list(TABLE_2)[3:]:
        for classes in STRINGS:
            yield from _table_2(row, classes)
    for seed in range(3):
        for row, (minutes, settings) in (FEW_SHOT | MORE_FAMILIES).items():
            if seed == 0 or row not in FEW_SHOT or row in THREE_SEEDS:
                yield "few-shot", row, seed, minutes, settings, 1000


def _neighbours() -> Iterator[Other]:
    for classes, episodes in STRINGS.items():
        settings = {"task": "omniglot", "model": "knn", "neighbours": 1} | episodes
        yield f"strings-{classes}", "kNN, pixels, k = 1", 0, 1, settings, 2000


def _table_2(row: str, classes: int) -> Iterator[Other]:
    *minutes, settings = TABLE_2[row]
    settings = OMNIGLOT | MUON | STRINGS[classes] | {"steps": TABLE_2_STEPS} | settings
    yield f"strings-{classes}", row, 0, minutes[list(STRINGS).index(classes)], settings, 2000


def _functions(seed: int) -> Iterator[Other]:
    """Regression on Gaussian processes, the model with a memory beside the one without, and with Adam."""
    for dimensions, length in FUNCTIONS.items():
        settings = {"task": "gaussian-processes", "dimensions": dimensions, "length": length}
        variables = f"{dimensions} variable{'s' if dimensions > 1 else ''}"
        falling = settings | {"lr_decay": "linear", "steps": 10_000}
        for model in ("mann", "lstm"):
            row = f"{model.upper()}, {variables}"
            yield "gaussian-processes", row, seed, 8 * length / 50, falling | {"model": model}, 2000
        if dimensions == 1:
            adam = settings | {"optimizer": "adam", "steps": 20_000}
            yield "gaussian-processes", f"MANN, Adam, {variables}", seed, 15, adam, 2000


def _persistent() -> Iterator[Other]:
    """Figure 3: a memory that is not wiped between episodes, beside one that is."""
    for row, minutes, settings in (
        ("not wiped", 15, {"persistent": True, "steps": 10_000}),
        ("wiped", 15, {"steps": 10_000}),
        ("not wiped, for longer", 45, {"persistent": True, "steps": 25_000}),
    ):
        yield "persistent", f"MANN, {row}", 0, minutes, OMNIGLOT | MUON | PERSISTENT | settings, 2000
