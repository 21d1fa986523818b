"""The plan of all runs behind docs/results.md: their settings and minutes, those that decide most first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.science.plan_others import MUON, others

BATCHES = 100_000  # "episodes" of the paper, as both replications that reach its figures read it
FACTOR_BATCHES = 10_000  # of each run that changes one factor
MEASURE = {"validation_episodes": 500, "validate_every": 500, "log_every": 100}


@dataclass(frozen=True)
class Planned:
    """A run: the row ``row`` of the study ``study`` with one seed.

    settings: those of ``python -m mannkern train``, with ``task``; model "knn" is not trained. minutes: what it takes
    of one thread, about. episodes: how many it is evaluated on
    """

    study: str
    row: str
    seed: int
    minutes: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 2000

    @property
    def name(self) -> str:
        """``table-1/mann-feed-forward-0``: the folder of the run, and the file of its result."""
        row = re.sub(r"[^a-z0-9.]+", "-", self.row.lower()).strip("-")
        return f"{self.study}/{row}-{self.seed}"


OMNIGLOT: dict[str, Any] = {"task": "omniglot"}
TEN: dict[str, Any] = {"balanced": True}  # drawings of each class in an episode
PLAIN: dict[str, Any] = TEN | {"subtract_mean": False, "input_smoothness": 0.0, "input_gain": 1.0}  # as papers start
EARLIER: dict[str, Any] = PLAIN | {"num_least_used": 4}  # a MANN before its start was looked into
COSINE: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3, "lr_decay": "cosine"}
ADAM: dict[str, Any] = TEN | {"optimizer": "adam", "lr": 2e-3, "lr_decay": "linear"}
TABLE_1: dict[str, tuple[float, dict[str, Any]]] = {
    "MANN": (105, {}),
    "MANN, ten of each": (105, TEN),
    "MANN, Adam": (75, ADAM),
    "MANN, plain start": (75, EARLIER | COSINE),
    "MANN, plain start, lr 2e-3": (75, EARLIER | COSINE | {"lr": 2e-3}),
    "LSTM": (80, {"model": "lstm"}),
    "LSTM, ten of each": (80, TEN | {"model": "lstm"}),
    "LSTM, Adam": (45, ADAM | {"model": "lstm"}),
    "LSTM, plain start": (70, PLAIN | COSINE | {"model": "lstm"}),
    "feed-forward": (20, {"model": "feedforward"}),
    "MANN, feed-forward": (90, {"controller": "feedforward"}),
    "MANN, NTM addressing": (280, {"model": "ntm"}),
    "MANN, sorted classes": (105, {"split": "sorted"}),
}
NEIGHBOURS = {f"kNN, pixels, k = {k}": {"model": "knn", "neighbours": k} for k in (1, 5)}
START: dict[str, dict[str, Any]] = {  # what the model starts with; 40,000 episodes each
    "smooth, mean subtracted, gain 2": {},
    "plain": PLAIN,
    "not smooth": {"input_smoothness": 0.0},
    "smoothed by 2.5 pixels": {"input_smoothness": 2.5},
    "mean not subtracted": {"subtract_mean": False},
    "gain 1": {"input_gain": 1.0},
    "gain 4": {"input_gain": 4.0},
    "lr 4e-3": {"lr": 4e-3},
    "lr 1e-3": {"lr": 1e-3},
    "1 least-used slot": {"num_least_used": 1},
    "4 least-used slots": {"num_least_used": 4},
    "reads not fed back": {"feed_reads": False},
    "Muon": MUON | TEN,
    "Muon, LSTM": MUON | TEN | {"model": "lstm"},
}
SEARCH: dict[str, dict[str, Any]] = {  # with a plain start, 40,000 episodes each
    "batch of 16, lr 1e-3": {},
    "batch of 16, lr 3e-3": {"lr": 3e-3},
    "batch of 16, lr 3e-3, strength 6 at first": {"lr": 3e-3, "initial_strength": 6.0},
    "batch of 4, lr 1e-3": {"batch_size": 4},
    "batch of 4, lr 2e-3": {"batch_size": 4, "lr": 2e-3},
    "batch of 4, uniform memory": {"batch_size": 4, "memory_init": "uniform"},
    "batch of 4, learned memory": {"batch_size": 4, "memory_init": "learned"},
}
EFFICIENCY: dict[str, tuple[float, dict[str, Any]]] = {  # 200,000 episodes each, over which the learning rate falls
    "MANN": (13, MUON),
    "MANN, other classes": (13, MUON | {"split": "other"}),
    "MANN, other alphabets": (13, MUON | {"split": "alphabets"}),
    "MANN, ten of each": (13, MUON | TEN),
    "MANN, batches of 8": (20, MUON | TEN | {"batch_size": 8}),
    "MANN, Adam": (8, ADAM),
    "MANN, batches of 4, plain start": (16, EARLIER | COSINE | {"batch_size": 4}),
    "LSTM": (10, MUON | {"model": "lstm"}),
    "LSTM, ten of each": (10, MUON | TEN | {"model": "lstm"}),
}
FACTORS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "image / its maximum": {"image_scale": "maximum"},
    "key strength": {"key_strength": True},
    "Adam 1e-3": {"optimizer": "adam", "lr": 1e-3},
    "RMSProp 1e-3": {"lr": 1e-3},
    "loss: mean": {"loss": "mean"},
    "slots per head": {"least_used": "per_head"},
    "own vector written": {"write": "add"},
    "balanced classes": {"balanced": True},
    "augmented at 20 x 20": {"augment_at": "reduced"},
    "gradient clipped at 10": {"clip": 10.0},
    "lr falls to 0": {"lr_decay": "cosine"},
    "usage decay 0.95": {"decay": 0.95},
    "reads not fed back": {"feed_reads": False},
    "1 read": {"num_reads": 1},
    "initial memory learned": {"memory_init": "learned"},
    "initial memory uniform": {"memory_init": "uniform"},
    "1 least-used slot": {"num_least_used": 1},
    "batch of 64": {"batch_size": 64},
    "batch of 256": {"batch_size": 256},
}
MOST = ("the paper's", "own vector written", "key strength", "reads not fed back")  # of FACTORS, which matter most
QUICK: dict[str, tuple[float, dict[str, Any]]] = {
    "MANN": (1.5, OMNIGLOT | MEASURE | TEN | {"steps": 1500}),
    "LSTM": (1.5, OMNIGLOT | MEASURE | TEN | {"steps": 1500, "model": "lstm"}),
    "feed-forward": (0.3, OMNIGLOT | MEASURE | TEN | {"steps": 1500, "model": "feedforward"}),
    "NTM, copy": (1, {"task": "copy", "steps": 2000}),
}


def plan() -> Iterator[Planned]:
    """All runs, in the order in which they are carried out."""
    yield from (_falling("start", row, 0, 2, ADAM | START[row], 40_000) for row in START)
    yield from (_falling("efficiency", row, 0, *EFFICIENCY[row], 200_000) for row in EFFICIENCY)
    yield from _table_1(("MANN", "MANN, ten of each"), 0, 1, 2)
    yield from _table_1(("MANN, Adam",), 0, 1, 2)
    yield from (_quick(row, seed) for seed in range(3) for row in QUICK)
    yield from (
        _falling("efficiency", row, seed, *EFFICIENCY[row], 200_000)
        for seed in (1, 2)
        for row in EFFICIENCY
        if "plain" not in row and "batches" not in row
    )
    yield from (_falling("search", row, 0, 3, EARLIER | COSINE | SEARCH[row], 40_000) for row in SEARCH)
    yield from _table_1(("MANN, plain start", "MANN, plain start, lr 2e-3", "LSTM, plain start"), 0)
    yield from (Planned("table-1", row, 0, 1, OMNIGLOT | settings) for row, settings in NEIGHBOURS.items())
    yield from _table_1(("LSTM", "LSTM, Adam", "feed-forward"), 0)
    yield from (_factor(row, 0) for row in FACTORS)
    yield from _table_1(("MANN, feed-forward",), 0)
    yield from _table_1(("LSTM",), 1, 2)
    yield from _table_1(("LSTM, ten of each",), 1)
    yield from (_factor(row, seed) for seed in (1, 2) for row in FACTORS)
    yield from (_factor(row, 0, "factors-full", BATCHES) for row in MOST)
    yield from _table_1(("MANN, NTM addressing", "MANN, sorted classes"), 0)
    yield from (Planned(*other) for other in others())


def _table_1(rows: tuple[str, ...], *seeds: int) -> Iterator[Planned]:
    for row in rows:
        minutes, settings = TABLE_1[row]
        for seed in seeds:
            common = OMNIGLOT | MEASURE | MUON | {"steps": BATCHES}
            yield Planned("table-1", row, seed, minutes, common | settings)


def _falling(study: str, row: str, seed: int, minutes: float, settings: dict[str, Any], episodes: int) -> Planned:
    """A MANN or another model for so many episodes; where its learning rate falls, it is 0 at their end."""
    batch = settings.get("batch_size", 16)
    common = OMNIGLOT | MEASURE
    common |= {"steps": episodes // batch, "validate_every": 4000 // batch, "log_every": 800 // batch}
    return Planned(study, row, seed, minutes, common | settings, 2000 if study == "efficiency" else 1000)


def _factor(row: str, seed: int, study: str = "factors", batches: int = FACTOR_BATCHES) -> Planned:
    """A run of the paper's literal model with one factor changed, over the episodes of ``batches`` batches of 16."""
    settings = OMNIGLOT | MEASURE | {"recipe": "paper"} | FACTORS[row]
    settings["steps"] = batches * 16 // settings.get("batch_size", 16)
    minutes = (9 if "augment_at" in FACTORS[row] else 15) * batches / FACTOR_BATCHES
    return Planned(study, row, seed, minutes, settings, 1000 if study == "factors" else 2000)


def _quick(row: str, seed: int) -> Planned:
    minutes, settings = QUICK[row]
    return Planned("quick", row, seed, minutes, settings, 500)
