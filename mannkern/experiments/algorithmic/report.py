"""The report on an algorithmic task: bits per sequence at every size, with an interval, as in Graves et al. 2014."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.algorithmic.config import AlgorithmicConfig
from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment, SizeScores, measure
from mannkern.tasks.algorithmic.sequences import size_text
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation


class Evaluation(NamedTuple):
    """A run's scores, one for each of the task's ``evaluation_sizes``."""

    run: Path
    config: AlgorithmicConfig
    step: int
    scores: list[SizeScores]


def evaluate(run: Path, config: AlgorithmicConfig, sequences: int = 1000) -> Evaluation:
    """Score a run on ``sequences`` sequences of every size of its task; write ``evaluation.json`` into it.

    All runs of one task see the same sequences. Raises ``CommandError`` where the run has no checkpoint.
    """
    experiment = AlgorithmicExperiment(config)
    task = experiment.task
    device = usable_device(config)
    model, step = load_model(run, experiment, device)
    scores = [
        measure(model, task, size, sequences, EVALUATION_SEED, index, device)
        for index, size in enumerate(task.evaluation_sizes)
    ]
    record = {
        "step": step,
        "training_sequences": step * config.batch_size,
        "model": config.model,
        "task": config.task,
        "size_is": task.size_name,
        "largest_in_training": list(task.largest),
        "sizes": [score.to_dict() for score in scores],
    }
    write_evaluation(run, record)
    return Evaluation(run, config, step, scores)


def table(results: Sequence[Evaluation]) -> str:
    """Bits per sequence by size: columns for each run, one for guessing, and one for the optimum where it is known."""
    task, scores = results[0].config.make_task(), results[0].scores
    beyond = [any(a > b for a, b in zip(score.size, task.largest, strict=True)) for score in scores]
    labels = [size_text(score.size) + ("*" if larger else " ") for score, larger in zip(scores, beyond, strict=True)]
    columns = [[task.size_name + " ", *labels]]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, *(f"{s.bits_per_sequence:.2f} ± {s.interval:.2f}" for s in result.scores)])
        columns.append(["bits wrong", *(f"{s.wrong_bits:.2f}" for s in result.scores)])
    if scores[0].optimal is not None:
        columns.append(["optimal", *(f"{s.optimal:.2f}" for s in scores)])
    columns.append(["guessing", *(str(s.answer_bits) for s in scores)])
    head = (
        f"{results[0].config.task}, bits per sequence: {scores[0].sequences:,} sequences of each size, "
        "± half a 95% interval; bits wrong after rounding, per sequence"
    )
    notes = ["", "*: larger than any in training"] if any(beyond) else []
    return "\n".join([head, *training_lines(results, "sequences"), "", *side_by_side(columns), *notes])
