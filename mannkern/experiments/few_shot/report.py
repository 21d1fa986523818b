"""The report on few-shot classification: accuracy on fresh episodes of unseen classes, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.experiment import FewShotExperiment, FewShotScores, measure, test_sampler
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation

PAPER = {  # accuracy on Omniglot, by model, then by classes and shots
    "matching": {(5, 1): 0.981, (5, 5): 0.989, (20, 1): 0.938, (20, 5): 0.985},  # Vinyals et al. 2016, table 1
    "meta-networks": {(5, 1): 0.9895, (20, 1): 0.970},  # Munkhdalai and Yu 2017
}


class Evaluation(NamedTuple):
    """A run's scores on unseen classes and on the classes of training."""

    run: Path
    config: FewShotConfig
    step: int
    unseen: FewShotScores
    seen: FewShotScores


def evaluate(run: Path, config: FewShotConfig, episodes: int = 1000) -> Evaluation:
    """Score a run on ``episodes`` episodes of unseen and as many of training classes; write ``evaluation.json``.

    All runs of one task and shape of episode see the same episodes, so they compare.
    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment = FewShotExperiment(config)
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
        "model": config.model,
        "classes": config.classes,
        "shots": config.shots,
        "queries": unseen.queries,
        "chance": 1 / config.classes,
        "unseen": result.unseen.to_dict(),
        "seen": result.seen.to_dict(),
    }
    write_evaluation(run, record)
    return result


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen and on training classes: a column for each run, one for chance, and the papers' if known."""
    config = results[0].config
    columns = [["", "unseen classes", "training classes"]]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, *(f"{s.accuracy:.1%} ± {s.interval:.1%}" for s in (result.unseen, result.seen))])
    columns.append(["chance", *[f"{1 / config.classes:.1%}"] * 2])
    if config.task == "few-shot-omniglot":
        for model in dict.fromkeys(result.config.model for result in results):
            paper = PAPER.get(model, {}).get((config.classes, config.shots))
            if paper is not None:
                columns.append([f"paper's {model.upper()}", f"{paper:.1%}", "-"])
    head = (
        f"{config.task}, accuracy {config.classes}-way {config.shots}-shot: {results[0].unseen.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )
    return "\n".join([head, *training_lines(results, "episodes"), "", *side_by_side(columns)])
