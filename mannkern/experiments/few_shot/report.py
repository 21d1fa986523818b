"""The report on few-shot classification: accuracy on fresh episodes of unseen classes, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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


FEWER = 5  # classes of an episode on which runs with more classes are measured too


class Evaluation(NamedTuple):
    """A run's scores on unseen classes and on the classes of training.

    fewer: on episodes of ``FEWER`` unseen classes, if the run's have more. A model learns more from an episode of many
        classes than from one of few (Snell et al. 2017, on the composition of episodes).
    """

    run: Path
    config: FewShotConfig
    step: int
    unseen: FewShotScores
    seen: FewShotScores
    fewer: FewShotScores | None = None


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
    fewer = None
    if config.classes > FEWER:
        sampler = test_sampler(replace(config, classes=FEWER), experiment.split.test, EVALUATION_SEED)
        fewer = measure(model, sampler, episodes, device)
    result = Evaluation(
        run, config, step, measure(model, unseen, episodes, device), measure(model, seen, episodes, device), fewer
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
    if fewer is not None:
        record["unseen_by_classes"] = {str(FEWER): fewer.to_dict()}
    write_evaluation(run, record)
    return result


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen and on training classes: a column for each run, one for chance, and the papers' if known."""
    config, more = results[0].config, results[0].fewer is not None
    columns = [["", "unseen classes", "training classes", *[f"unseen, {FEWER}-way"] * more]]
    for name, result in zip(run_names(results), results, strict=True):
        scores = [s for s in (result.unseen, result.seen, result.fewer) if s is not None]
        columns.append([name, *(f"{s.accuracy:.1%} ± {s.interval:.1%}" for s in scores)])
    columns.append(["chance", *[f"{1 / config.classes:.1%}"] * 2, *[f"{1 / FEWER:.1%}"] * more])
    if config.task == "few-shot-omniglot":
        for model in dict.fromkeys(result.config.model for result in results):
            figures = [PAPER.get(model, {}).get((classes, config.shots)) for classes in (config.classes, FEWER)]
            paper, of_fewer = ("-" if figure is None else f"{figure:.1%}" for figure in figures)
            if figures[0] is not None or (more and figures[1] is not None):
                columns.append([f"paper's {model.upper()}", paper, "-", *[of_fewer] * more])
    head = (
        f"{config.task}, accuracy {config.classes}-way {config.shots}-shot: {results[0].unseen.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )
    return "\n".join([head, *training_lines(results, "episodes"), "", *side_by_side(columns)])
