"""The algorithmic tasks of Graves et al. 2014: their data, their loss, and bits per sequence."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.experiments.algorithmic.config import AlgorithmicConfig
from mannkern.experiments.algorithmic.controls import start_heads
from mannkern.models import Transducer, build_core
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.sequences import (
    Sequences,
    SequenceTask,
    Size,
    answer_bits,
    answer_cost,
    bits_per_sequence,
    wrong_bits,
)
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval

VALIDATION_SEQUENCES = 100
BATCH = 100
MOST_BATCHES = 1 << 16  # of one size: the batches of the next size are numbered from there on


class SizeScores(NamedTuple):
    """Scores on ``sequences`` sequences of one size; ``interval`` is half the width of the 95% interval of the bits.

    answer_bits: bits of the answer to a sequence; guessing costs as many
    wrong_bits:  mean number of them that are wrong after rounding
    optimal:     bits per sequence of the best possible prediction on the same sequences, None where it is unknown
    """

    size: Size
    sequences: int
    answer_bits: int
    bits_per_sequence: float
    interval: float
    wrong_bits: float
    optimal: float | None

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON."""
        values = {**self._asdict(), "size": list(self.size)}
        values["interval_95"] = values.pop("interval")
        values["optimal_bits_per_sequence"] = values.pop("optimal")
        return values


def measure(
    model: nn.Module, task: SequenceTask, size: Size, number: int, seed: int, index: int, device: torch.device
) -> SizeScores:
    """Score ``model`` on ``number`` sequences of ``size``, which ``seed`` and ``index`` determine.

    Torch's generator stays as it was.
    """
    bits, wrong, optimal = [], [], []
    due = 0
    with eval_mode(model, device):
        for batch, start in enumerate(range(0, number, BATCH)):
            generator = seeds.generator(seed, index * MOST_BATCHES + batch)
            sequences = task.sample(min(BATCH, number - start), generator, size)
            due = answer_bits(sequences)
            best_logits = task.optimal(sequences)
            if best_logits is not None:
                optimal.append(bits_per_sequence(best_logits, sequences).double())
            sequences = _on(sequences, device)
            logits = model(sequences.inputs)
            bits.append(bits_per_sequence(logits, sequences).double().cpu())
            wrong.append(wrong_bits(logits, sequences).double().cpu())
    best = float(torch.cat(optimal).mean()) if optimal else None
    return SizeScores(size, number, due, *mean_and_interval(torch.cat(bits)), float(torch.cat(wrong).mean()), best)


class AlgorithmicExperiment:
    """An algorithmic task: the loss is the binary cross entropy of a sequence's answer, in nats, as in the paper.

    All sequences of a batch have one size, drawn for every step from the seed and the step alone.
    """

    unit = "sequences"
    num_sums = 3

    def __init__(self, config: AlgorithmicConfig) -> None:
        self.config = config
        self.task = config.make_task()

    def make_model(self) -> Transducer:
        """Raises ``CommandError`` for impossible sizes."""
        settings = self.config.core_settings(self.task.input_size)
        try:
            core = build_core(self.config.model, settings)
        except ValueError as error:
            raise command_error(error, self.config) from error
        if self.config.model == "ntm":
            start_heads(core, self.config.initial_sharpness, self.config.initial_gate)
        return Transducer(core, self.task.output_size)

    def sample(self, step: int, device: torch.device) -> Sequences:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Sequences:
        """The sequences ``rows`` of the batch of ``step``."""
        batch = self.task.sample(self.config.batch_size, seeds.generator(self.config.seed, step))
        return _on(Sequences(*(tensor[:, rows].contiguous() for tensor in batch)), device)

    def loss_and_sums(self, model: nn.Module, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Loss and [bits, wrong bits, sequences]."""
        logits = model(batch.inputs)
        cost = answer_cost(logits, batch)
        bits, wrong = cost.detach().double().sum() / math.log(2), wrong_bits(logits.detach(), batch).sum()
        return cost.mean(), torch.stack((bits, wrong.double(), torch.full_like(bits, len(cost))))

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``bits_per_sequence`` and ``wrong_bits`` (after rounding), means over sequences."""
        bits, wrong, sequences = sums
        return {"bits_per_sequence": bits / sequences, "wrong_bits": wrong / sequences}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"{summary['bits_per_sequence']:.3g} bits/sequence, {summary['wrong_bits']:.2g} wrong"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Bits per sequence on the largest size of training, the same sequences every time."""
        scores = measure(model, self.task, self.task.largest, VALIDATION_SEQUENCES, VALIDATION_SEED, 0, device)
        record = {"bits_per_sequence": scores.bits_per_sequence, "wrong_bits": scores.wrong_bits}
        return record if scores.optimal is None else {**record, "optimal_bits_per_sequence": scores.optimal}


def _on(sequences: Sequences, device: torch.device) -> Sequences:
    return Sequences(*(tensor.to(device) for tensor in sequences))
