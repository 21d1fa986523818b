"""The report on zero-shot classification: accuracy on fresh episodes of unseen classes."""

from __future__ import annotations

from pathlib import Path

from mannkern.experiments.few_shot.experiment import measure
from mannkern.experiments.unseen_report import Evaluation, draw_all, table
from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.experiments.zero_shot.experiment import ZeroShotExperiment
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import write_evaluation

__all__ = ["Evaluation", "draw_all", "evaluate", "table"]


def evaluate(run: Path, config: ZeroShotConfig, episodes: int = 1000) -> Evaluation:
    """Score a run on ``episodes`` episodes of unseen classes; write ``evaluation.json``.

    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment, device = ZeroShotExperiment(config), usable_device(config)
    model, step = load_model(run, experiment, device)
    unseen = measure(model, experiment.test_sampler(EVALUATION_SEED), episodes, device)
    record = {
        "step": step,
        "training_episodes": step * config.batch_size,
        "model": config.model,
        "classes": config.classes,
        "shots": 0,
        "chance": 1 / config.classes,
        "unseen": unseen.to_dict(),
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, unseen)
