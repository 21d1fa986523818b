"""Accuracy by instance on fresh episodes, with an interval, as in Table 1 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .build import load_model, usable_device
from .checkpoint import write_json
from .config import TrainConfig
from .episodes import INSTANCES, EpisodeExperiment, Scores, measure, test_sampler
from .experiment import EVALUATION_SEED
from .tables import EVALUATION, run_names, side_by_side, trained

EPISODES = 1000
PAPER = {1: 0.364, 2: 0.828, 3: 0.910, 4: 0.926, 5: 0.949, 10: 0.981}  # Table 1, MANN, five classes, one-hot labels


class Evaluation(NamedTuple):
    """A run's scores on classes never seen in training and on those it learned from."""

    run: Path
    config: TrainConfig
    step: int
    unseen: Scores
    seen: Scores


def evaluate(run: Path, config: TrainConfig, episodes: int = EPISODES) -> Evaluation:
    """Score a run on ``episodes`` unseen and as many training classes' episodes; write ``evaluation.json`` into it.

    All runs of one task and shape of episode see the same episodes, so they can be compared.
    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment = EpisodeExperiment(config)
    unseen = test_sampler(config, experiment.split.test, EVALUATION_SEED)
    seen = test_sampler(config, experiment.split.train, EVALUATION_SEED)
    device = usable_device(config)
    model, step = load_model(run, experiment, device)
    result = Evaluation(
        run, config, step, measure(model, unseen, episodes, device), measure(model, seen, episodes, device)
    )
    record = {
        "step": step,
        "training_episodes": step * config.batch_size,
        "memory": config.memory,
        "chance": 1 / config.classes,
        "unseen": result.unseen.to_dict(),
        "seen": result.seen.to_dict(),
    }
    write_json(run / EVALUATION, record)
    return result


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes by instance, a column a run, next to chance and, where it compares, to the paper."""
    config = results[0].config
    columns = [["instance", *(ordinal(k) for k in INSTANCES)]]
    for name, result in zip(run_names(results), results, strict=True):
        scores = zip(result.unseen.by_instance, result.unseen.interval, strict=True)
        cells = ["-" if math.isnan(mean) else f"{mean:6.1%} ± {half:.1%}" for mean, half in scores]
        columns.append([name, *(cells[k - 1] for k in INSTANCES)])
    columns.append(["chance", *[f"{1 / config.classes:.1%}"] * len(INSTANCES)])
    if config.task == "omniglot" and config.classes == 5:
        columns.append(["paper's MANN", *(f"{PAPER[k]:.1%}" for k in INSTANCES)])
    head = (
        f"Accuracy on classes never seen in training, by instance: {results[0].unseen.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )
    ideal = sum(1 / k for k in range(1, config.classes + 1)) / config.classes
    note = f"1st: labels already given can be ruled out, so {ideal:.1%} is possible without having seen the class"
    return "\n".join([head, *trained(results, "episodes"), "", *side_by_side(columns), "", note])


def ordinal(k: int) -> str:
    """1st, 2nd, ... for k up to 10."""
    return str(k) + {1: "st", 2: "nd", 3: "rd"}.get(k, "th")
