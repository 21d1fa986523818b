"""One-shot classification of characters: its data, its loss, and its accuracy by instance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.experiments.characters import load_split
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.controls import hide_reads, scale_inputs, start_strengths
from mannkern.models import EpisodeClassifier, PersistentClassifier, build_core
from mannkern.tasks import Episodes, EpisodeSampler, Labels, OneHotLabels, StringLabels
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.labels import answered_right, label_loss
from mannkern.tasks.characters.sampler import MAX_SHIFT_OF_105
from mannkern.training.errors import CommandError
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval, means_and_intervals

INSTANCES = (1, 2, 3, 4, 5, 10)  # the columns of Table 1 of the paper
MAX_INSTANCE = 10
BATCH = 100
STREAM = 20  # episodes whose memory is not wiped between them
LONG = 150  # time steps; episodes longer than that come in smaller batches, because a drawing takes 1.6 kB
LABELS: dict[str, Labels] = {"one-hot": OneHotLabels(), "strings": StringLabels()}


def chance(config: OneShotConfig) -> float:
    """The accuracy of a label drawn blindly: one class of C, or one string of all there are."""
    return 1 / (StringLabels.NUMBER if config.labels == "strings" else config.classes)


def training_sampler(config: OneShotConfig, images: Tensor | ImageSet) -> EpisodeSampler:
    """Episodes to learn from, augmented as ``config`` says. Raises ``CommandError`` for impossible sizes."""
    return _sampler(config, images, config.seed, config.rotate_classes, config.augment)


def test_sampler(config: OneShotConfig, images: Tensor | ImageSet, seed: int) -> EpisodeSampler:
    """Episodes to measure on: the original drawings, neither augmented nor turned into new classes."""
    return _sampler(config, images, seed, rotate_classes=False, augment=False)


def augmented_test_sampler(config: OneShotConfig, images: Tensor | ImageSet, seed: int) -> EpisodeSampler:
    """Episodes to measure on, augmented and with quarter turns as classes, as the paper's test has them."""
    turns = config.side is not None  # of characters; images of a user's own have no turned classes
    return _sampler(config, images, seed, rotate_classes=turns, augment=True)


def _sampler(
    config: OneShotConfig, images: Tensor | ImageSet, seed: int, rotate_classes: bool, augment: bool
) -> EpisodeSampler:
    try:
        return EpisodeSampler(
            images,
            classes_per_episode=config.classes,
            length=config.length,
            balanced=config.balanced,
            queries_last=config.shots is not None,
            rotate_classes=rotate_classes,
            augment=augment,
            seed=seed,
            labels=LABELS[config.labels],
            image_scale=config.image_scale,
            side=config.side,
            max_shift=MAX_SHIFT_OF_105 if config.original else config.max_shift,
        )
    except ValueError as error:
        raise command_error(error, config) from error


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
            batch = _on(sampler.sample(min(most, episodes - start), index), device)
            tally.add(model(batch.inputs), batch, sampler.answers)
    return tally.scores()


def measure_streams(
    model: nn.Module, sampler: EpisodeSampler, episodes: int, device: torch.device, wipe: bool = False
) -> tuple[Scores, list[float]]:
    """Score ``model`` on streams of ``STREAM`` episodes, each going on from the state of the one before it.

    wipe: each starts anew instead, on the same episodes. Returns the scores of all, and the accuracy by place in a
    stream. There are about ``episodes`` together; those of a stream share a memory, so intervals are too narrow where
    it is not wiped. Torch's generator stays as it was.
    """
    streams = max(1, min(BATCH, episodes // STREAM))
    tally, state = _Tally(), None
    with eval_mode(model, device):
        for index in range(max(2, min(STREAM, episodes // streams))):
            batch = _on(sampler.sample(streams, index), device)
            logits, state = model.continue_from(batch.inputs, None if wipe else state)  # type: ignore[operator]
            tally.add(logits, batch, sampler.answers)
    return tally.scores(), tally.by_batch()


def _on(episodes: Episodes, device: torch.device) -> Episodes:
    return Episodes(*(part.to(device) for part in episodes))


def make_model(config: OneShotConfig) -> EpisodeClassifier:
    """A core under a linear head, without the data. Raises ``CommandError`` for impossible sizes."""
    try:
        label_size = LABELS[config.labels].size(config.classes)
        core = build_core(config.model, config.core_settings(config.pixels + label_size))
        model = EpisodeClassifier(core, label_size)
        if config.carries:
            model = PersistentClassifier(core, label_size, config.batch_size)
    except ValueError as error:
        raise command_error(error, config) from error
    if config.input_gain != 1:
        scale_inputs(model.recurrent, config.input_gain)
    if not config.feed_reads:
        hide_reads(model.recurrent)
    if config.initial_strength is not None:
        start_strengths(model.recurrent, config.initial_strength)
    return model


class OneShotExperiment:
    """One-shot classification: cross entropy over all answers that are due, accuracy by the instance of a class.

    Under a curriculum, validation keeps the number of classes that training begins with, so that its numbers compare.
    """

    unit = "episodes"
    num_sums = 2 + 2 * len(INSTANCES)

    def __init__(self, config: OneShotConfig) -> None:
        self.config = config
        self.split = load_split(config, config.original)
        self.sampler = training_sampler(config, self.split.train)
        self.unseen = test_sampler(config, self.split.test, VALIDATION_SEED)

    def make_model(self) -> EpisodeClassifier:
        return make_model(self.config)

    def sample(self, step: int, device: torch.device) -> Episodes:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Episodes:
        """The episodes ``rows`` of the batch of ``step``; of a memory that is not wiped, all."""
        if self.config.carries and rows != slice(None):
            raise CommandError("--persistent trains in one process: its memories belong to the rows of the batch")
        config = self.config.at_step(step)
        if config.classes != self.sampler.num_classes:
            self.sampler = training_sampler(config, self.split.train)
        return _on(self.sampler.sample(config.batch_size, step, rows), device)

    def loss_and_sums(self, model: nn.Module, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Loss and [correct, shown, correct by instance, shown by instance]."""
        due = self.sampler.answers
        logits, symbols = model(batch.inputs)[due], batch.symbols[due]
        loss = label_loss(logits, symbols).mean()
        if self.config.loss == "sum":
            loss = loss * len(logits)
        correct = answered_right(logits.detach(), symbols)
        at = batch.instances[due] == torch.tensor(INSTANCES, device=correct.device).view(-1, 1, 1)
        right, shown = correct.sum(), torch.full_like(correct.sum(), correct.numel())
        sums = torch.cat((torch.stack((right, shown)), (at & correct).sum((1, 2)), at.sum((1, 2))))
        return loss, sums.double()

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``accuracy`` and ``accuracy_by_instance`` (None: never shown)."""
        correct, shown, *by_instance = sums
        pairs = zip(by_instance[: len(INSTANCES)], by_instance[len(INSTANCES) :], strict=True)
        accuracies = [right / of if of else None for right, of in pairs]
        return {
            "accuracy": correct / shown,
            "accuracy_by_instance": {str(k): value for k, value in zip(INSTANCES, accuracies, strict=True)},
        }

    def progress_text(self, summary: dict[str, Any]) -> str:
        second = summary["accuracy_by_instance"]["2"]
        return f"accuracy {summary['accuracy']:.1%}" + (f" (2nd {second:.0%})" if second is not None else "")

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Loss and accuracy on episodes of unseen classes, on streams of them if the memory is not wiped."""
        number = self.config.validation_episodes
        if self.config.carries:
            return measure_streams(model, self.unseen, number, device)[0].summary(INSTANCES)
        return measure(model, self.unseen, number, device).summary(INSTANCES)
