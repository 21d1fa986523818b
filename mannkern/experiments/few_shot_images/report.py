"""The report on few-shot images: accuracy on fresh episodes of the classes of test.csv."""

from __future__ import annotations

from pathlib import Path

from mannkern.experiments.few_shot.experiment import measure
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.experiments.few_shot_images.experiment import FewShotImagesExperiment
from mannkern.experiments.unseen_report import Evaluation, draw_all, table
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import write_evaluation

__all__ = ["Evaluation", "draw_all", "evaluate", "table"]


def evaluate(run: Path, config: FewShotImagesConfig, episodes: int = 1000) -> Evaluation:
    """Score a run on ``episodes`` episodes of the classes of test.csv; write ``evaluation.json``.

    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment, device = FewShotImagesExperiment(config), usable_device(config)
    model, step = load_model(run, experiment, device)
    unseen = measure(model, experiment.sampler_of("test", EVALUATION_SEED), episodes, device)
    record = {
        "step": step,
        "training_episodes": step * config.batch_size,
        "model": config.model,
        "classes": config.classes,
        "shots": config.shots,
        "chance": 1 / config.classes,
        "unseen": unseen.to_dict(),
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, unseen)
