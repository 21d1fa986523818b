"""Sequences of your own, from an ``IterableDataset``: ``sequence_task`` makes a task of them."""

from mannkern.experiments.sequences.experiment import SequenceExperiment
from mannkern.experiments.sequences.task import sequence_task

__all__ = ["SequenceExperiment", "sequence_task"]
