"""The algorithmic tasks of Graves et al. 2014 as an experiment: binary cross entropy, in bits per sequence."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.models.transducer import Transducer
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.ngrams import DynamicNGrams
from mannkern.tasks.algorithmic.sequences import (
    Sequences,
    SequenceTask,
    Size,
    answer_bits,
    answer_cost,
    bits_per_sequence,
    wrong_bits,
)

from .build import measuring
from .errors import CommandError
from .experiment import VALIDATION_SEED
from .sequence_config import SequenceConfig

VALIDATION_SEQUENCES = 100
BATCH = 100
MOST_BATCHES = 1 << 16  # of one size: batches of other sizes are numbered beyond


class SizeScores(NamedTuple):
    """Over ``sequences`` sequences of one size: bits per sequence, and half the width of its 95% interval (normal).

    answer_bits: bits that a sequence asks for, which is what guessing costs
    wrong_bits:  mean number of them that are wrong after rounding
    optimal:     bits per sequence of the best prediction there is, on the same sequences, where that is known
    """

    size: Size
    sequences: int
    answer_bits: int
    bits_per_sequence: float
    interval: float
    wrong_bits: float
    optimal: float | None

    def to_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        values = {**self._asdict(), "size": list(self.size)}
        values["interval_95"] = values.pop("interval")
        values["optimal_bits_per_sequence"] = values.pop("optimal")
        return values


def measure(
    model: nn.Module, task: SequenceTask, size: Size, number: int, seed: int, index: int, device: torch.device
) -> SizeScores:
    """Score ``model`` on ``number`` sequences of ``size``, those of ``seed`` and ``index``; moves no generator."""
    bits, wrong, optimal = [], [], []
    asked = 0
    with measuring(model, device):
        for batch, start in enumerate(range(0, number, BATCH)):
            generator = seeds.generator(seed, index * MOST_BATCHES + batch)
            sequences = task.sample(min(BATCH, number - start), generator, size)
            asked = answer_bits(sequences)
            if isinstance(task, DynamicNGrams):
                optimal.append(bits_per_sequence(task.optimal(sequences), sequences).double())
            sequences = _on(sequences, device)
            logits = model(sequences.inputs)
            bits.append(bits_per_sequence(logits, sequences).double().cpu())
            wrong.append(wrong_bits(logits, sequences).double().cpu())
    each = torch.cat(bits)
    interval = 1.96 * float(each.std()) / math.sqrt(number)
    best = float(torch.cat(optimal).mean()) if optimal else None
    return SizeScores(size, number, asked, float(each.mean()), interval, float(torch.cat(wrong).mean()), best)


class SequenceExperiment:
    """An algorithmic task: the loss is the binary cross entropy of a sequence's answer, in nats, as in the paper.

    All sequences of a batch have one size, drawn for every step from the seed and the step alone.
    """

    unit = "sequences"
    num_sums = 3

    def __init__(self, config: SequenceConfig) -> None:
        self.config = config
        self.task = config.make_task()

    def make_model(self) -> Transducer:
        """Raises ``CommandError`` for sizes that cannot be."""
        config = self.config
        try:
            return Transducer(
                self.task.input_size,
                self.task.output_size,
                memory=config.memory,
                hidden_size=config.hidden_size,
                memory_slots=config.memory_slots,
                memory_width=config.memory_width,
                read_heads=config.read_heads,
                write_heads=config.write_heads,
                shift_range=config.shift_range,
                controller=config.controller,
                memory_init=config.memory_init,
                backend=config.backend,
                lstm_size=config.lstm_size,
                lstm_layers=config.lstm_layers,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error

    def sample(self, step: int, device: torch.device) -> Sequences:
        return _on(self.task.sample(self.config.batch_size, seeds.generator(self.config.seed, step)), device)

    def score(self, model: nn.Module, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Loss and [bits, wrong bits, sequences]."""
        logits = model(batch.inputs)
        cost = answer_cost(logits, batch)
        bits, wrong = cost.detach().double().sum() / math.log(2), wrong_bits(logits.detach(), batch).sum()
        return cost.mean(), torch.stack((bits, wrong.double(), torch.full_like(bits, len(cost))))

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``bits_per_sequence`` and ``wrong_bits`` (after rounding), means over sequences."""
        bits, wrong, sequences = sums
        return {"bits_per_sequence": bits / sequences, "wrong_bits": wrong / sequences}

    def remark(self, summary: dict[str, Any]) -> str:
        return f"{summary['bits_per_sequence']:.3g} bits/sequence, {summary['wrong_bits']:.2g} wrong"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Bits per sequence on the largest size of training, the same sequences every time."""
        scores = measure(model, self.task, self.task.largest, VALIDATION_SEQUENCES, VALIDATION_SEED, 0, device)
        found = {"bits_per_sequence": scores.bits_per_sequence, "wrong_bits": scores.wrong_bits}
        return found if scores.optimal is None else {**found, "optimal_bits_per_sequence": scores.optimal}


def _on(sequences: Sequences, device: torch.device) -> Sequences:
    return Sequences(*(tensor.to(device) for tensor in sequences))
