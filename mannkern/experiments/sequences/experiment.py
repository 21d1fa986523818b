"""Sequences of your own: their loss, and how good the answers are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.sequences.config import SequenceConfig
from mannkern.experiments.sequences.stream import Batch, Stream, batch_of
from mannkern.models import Transducer, build_core
from mannkern.tasks.characters.sampler import ALL
from mannkern.training.errors import CommandError
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval

LOSSES = ("classes", "bits", "numbers")
VALIDATION_SEQUENCES = 100
MEASURED = 100  # sequences in a batch


def make_model(config: SequenceConfig, input_size: int, outputs: int) -> Transducer:
    """A core under a linear head. Raises ``CommandError`` for impossible sizes."""
    try:
        return Transducer(build_core(config.model, config.core_settings(input_size)), outputs)
    except ValueError as error:
        raise command_error(error, config) from error


def loss_and_score(logits: Tensor, batch: Batch, loss: str) -> tuple[Tensor, Tensor]:
    """logits (T, B, O) -> of each step the loss (T, B) and the score (T, B), what is right or the squared error."""
    if loss == "classes":
        cost = F.cross_entropy(logits.movedim(-1, 1), batch.targets, reduction="none")
        return cost, (logits.argmax(-1) == batch.targets).double()
    if loss == "bits":
        cost = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").mean(-1)
        return cost, ((logits > 0) == (batch.targets > 0.5)).double().mean(-1)
    cost = (logits - batch.targets).square().mean(-1)
    return cost, cost.double()


class SequenceExperiment:
    """Sequences whose answers are classes, bits or numbers: the loss is the mean over all answers of a batch.

    The batch of step t are the sequences t * B to t * B + B - 1 of the training data, so a resumed run sees those of an
    unbroken one, after it has read the others once more. Every one of several processes reads all of them and keeps its
    rows, because only a dataset itself knows how to skip some.
    """

    unit = "sequences"
    num_sums = 2

    def __init__(self, config: SequenceConfig, train: Stream, test: Stream, loss: str, sizes: tuple[int, int]) -> None:
        self.config, self.train, self.test, self.loss, self.sizes = config, train, test, loss, sizes

    @property
    def score(self) -> str:
        """The name of the score."""
        return "mean_squared_error" if self.loss == "numbers" else "accuracy"

    def make_model(self) -> Transducer:
        return make_model(self.config, *self.sizes)

    def sample(self, step: int, device: torch.device) -> Batch:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Batch:
        """The sequences ``rows`` of the batch of ``step``."""
        size = self.config.batch_size
        return self._batch(self.train, self.train.take(step * size, size), device, rows)

    def loss_and_sums(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and [sum of scores, answers]."""
        cost, score = loss_and_score(model(batch.inputs), batch, self.loss)
        sums = torch.stack(((score.detach() * batch.mask).sum(), batch.mask.sum().double()))
        return (cost * batch.mask).sum() / batch.due, sums

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """The score, a mean over answers."""
        return {self.score: sums[0] / max(sums[1], 1.0)}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"{self.score.replace('_', ' ')} {summary[self.score]:.4g}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Loss and score on the first sequences of the test data."""
        measured = self.measure(model, device, VALIDATION_SEQUENCES)
        return {name: measured[name] for name in ("loss", self.score)}

    def measure(self, model: nn.Module, device: torch.device, number: int) -> dict[str, float]:
        """Means over those of the first ``number`` sequences of the test data that have an answer, and an interval.

        Each such sequence counts once.
        """
        sequences = self.test.first(number)
        if len(sequences) < 2:
            raise CommandError(f"{self.test.name}: got {len(sequences)} sequences, need at least two")
        rows = []
        with eval_mode(model, device):
            for start in range(0, len(sequences), MEASURED):
                batch = self._batch(self.test, sequences[start : start + MEASURED], device)
                results = loss_and_score(model(batch.inputs), batch, self.loss)
                due = batch.mask.sum(0)
                means = torch.stack([(x.double() * batch.mask).sum(0) / due for x in results], 1)
                rows.append(means[due > 0].cpu())
        losses, scores = torch.cat(rows).unbind(1)
        if len(scores) < 2:
            raise CommandError(f"{self.test.name}: got {len(scores)} sequences with an answer, need at least two")
        score, interval = mean_and_interval(scores)
        return {"loss": float(losses.mean()), self.score: score, "interval_95": interval, "sequences": len(scores)}

    def _batch(
        self, stream: Stream, sequences: list[tuple[Tensor, ...]], device: torch.device, rows: slice = ALL
    ) -> Batch:
        input_size, outputs = self.sizes
        for inputs, targets, _ in sequences:
            classes = self.loss == "classes"
            if classes != (targets.dim() == 1) or not (classes or targets.shape[1] == outputs):
                need = f"integers below {outputs}" if classes else f"(T, {outputs}) floating point"
                raise CommandError(f"{stream.name}: targets: got {tuple(targets.shape)} {targets.dtype}, need {need}")
            if classes and not bool(((targets >= 0) & (targets < outputs)).all()):
                raise CommandError(f"{stream.name}: targets: got {int(targets.max())}, need classes 0 to {outputs - 1}")
            if inputs.shape[1] != input_size:
                raise CommandError(f"{stream.name}: inputs: got {inputs.shape[1]} features, need {input_size}")
        return batch_of(sequences, device, rows)
