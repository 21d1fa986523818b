"""How one-shot episodes are scored: accuracy by the presentation of a class, with intervals over episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mannkern.models import PersistentClassifier
from mannkern.tasks import Episodes, EpisodeSampler
from mannkern.tasks.characters.labels import answered_right, label_loss
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval, means_and_intervals

MAX_INSTANCE = 10
BATCH = 100
STREAM = 20  # episodes whose memory is not wiped between them
LONG = 150  # time steps; episodes longer than that come in smaller batches, because a drawing takes 1.6 kB


class Scores(NamedTuple):
    """Accuracy over E episodes. Item k - 1 of a list is the k-th presentation of a class, NaN where none came so often.

    ``interval`` is half the width of a 95% interval over the episodes' own means: outcomes within an episode share its
    classes and its memory, while episodes are independent draws. It is 0 where all episodes agree.
    ``accuracy_interval`` is that of ``accuracy``, which is over all answers.
    """

    episodes: int
    loss: float
    accuracy: float
    by_instance: list[float]
    interval: list[float]
    accuracy_interval: float = 0.0

    def summary(self, instances: Sequence[int]) -> dict[str, Any]:
        """``loss``, ``accuracy`` and ``accuracy_by_instance`` of ``instances``, fit for JSON (None instead of NaN)."""
        chosen = {str(k): _or_none(self.by_instance[k - 1]) for k in instances}
        return {"loss": self.loss, "accuracy": self.accuracy, "accuracy_by_instance": chosen}

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON (None instead of NaN)."""
        intervals = {str(k): _or_none(value) for k, value in enumerate(self.interval, 1)}
        summary = self.summary(range(1, MAX_INSTANCE + 1))
        return {
            "episodes": self.episodes,
            **summary,
            "interval_95": self.accuracy_interval,
            "interval_95_by_instance": intervals,
        }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


class _Tally:
    """Right answers by instance, and loss and accuracy, episode by episode."""

    def __init__(self) -> None:
        self.right: list[Tensor] = []
        self.shown: list[Tensor] = []
        self.losses: list[Tensor] = []

    def add(self, logits: Tensor, batch: Episodes, answers: slice) -> None:
        """Count a batch. answers: the steps whose answers are due."""
        logits, symbols = logits[answers], batch.symbols[answers]
        correct = answered_right(logits, symbols)
        instances = torch.arange(1, MAX_INSTANCE + 1, device=logits.device)
        at = batch.instances[answers].unsqueeze(-1) == instances  # (T, B, K)
        self.shown.append(at.sum(0).double().cpu())
        self.right.append((at & correct.unsqueeze(-1)).sum(0).double().cpu())
        loss = label_loss(logits, symbols)
        self.losses.append(torch.stack((loss.double().mean(0), correct.double().mean(0)), 1).cpu())

    def scores(self) -> Scores:
        # (E, K) accuracies of episodes; 0/0 = NaN where an episode shows no class so often
        by_instance, interval = means_and_intervals(torch.cat(self.right) / torch.cat(self.shown))
        losses, accuracies = torch.cat(self.losses).unbind(1)
        accuracy, half = mean_and_interval(accuracies)
        return Scores(len(losses), float(losses.mean()), accuracy, by_instance, interval, half)

    def by_batch(self) -> list[float]:
        """Accuracy of each batch."""
        return [float(losses[:, 1].mean()) for losses in self.losses]


def measure(model: nn.Module, sampler: EpisodeSampler, episodes: int, device: torch.device) -> Scores:
    """Score ``model`` on the sampler's first ``episodes`` episodes. Torch's generator stays as it was."""
    tally = _Tally()
    with eval_mode(model, device):
        most = max(1, BATCH * LONG // max(sampler.length, LONG))
        for index, start in enumerate(range(0, episodes, most)):
            batch = on_device(sampler.sample(min(most, episodes - start), index), device)
            tally.add(model(batch.inputs), batch, sampler.answers)
    return tally.scores()


def measure_streams(
    model: nn.Module, sampler: EpisodeSampler, episodes: int, device: torch.device, wipe: bool = False
) -> tuple[Scores, list[float]]:
    """Score a :class:`PersistentClassifier` on streams of ``STREAM`` episodes.

    Each starts with the memory that the one before it has left. wipe: it is wiped instead, on the same episodes.
    Returns the scores of all, and the accuracy by place in a stream. There are about ``episodes`` together; those of a
    stream share a memory, so intervals are too narrow where it is not wiped. Torch's generator stays as it was.
    """
    streams = max(1, min(BATCH, episodes // STREAM))
    tally, state, classifier = _Tally(), None, cast(PersistentClassifier, model)
    with eval_mode(model, device):
        for index in range(max(2, min(STREAM, episodes // streams))):
            batch = on_device(sampler.sample(streams, index), device)
            start = None if wipe or state is None else classifier.next_episode(state)
            logits, state = classifier.continue_from(batch.inputs, start)
            tally.add(logits, batch, sampler.answers)
    return tally.scores(), tally.by_batch()


def on_device(episodes: Episodes, device: torch.device) -> Episodes:
    """The same episodes on a device."""
    return Episodes(*(part.to(device) for part in episodes))
