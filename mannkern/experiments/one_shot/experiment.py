"""One-shot classification of characters: its data, its loss, and its accuracy by presentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mannkern.experiments.characters import OfSplit, load_split
from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.controls import hide_reads, start_inputs, start_strengths
from mannkern.experiments.one_shot.scores import measure, measure_streams, on_device
from mannkern.models import EpisodeClassifier, PersistentClassifier, build_core
from mannkern.tasks import Episodes, EpisodeSampler, Labels, OneHotLabels, StringLabels
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.labels import answered_right, label_loss
from mannkern.tasks.characters.sampler import MAX_SHIFT_OF_105
from mannkern.training.errors import CommandError
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error

MEAN_OF = 20_000  # images; the standard error of a pixel of the mean is then 0.002, of 0.31 at most
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


def make_model(config: OneShotConfig) -> EpisodeClassifier:
    """A core under a linear head, without the data: its mean is 0. Raises ``CommandError`` for impossible sizes."""
    try:
        label_size = LABELS[config.labels].size(config.classes)
        core = build_core(config.model, config.core_settings(config.pixels + label_size))
        mean = torch.zeros(config.pixels + label_size) if config.subtract_mean else None
        model = EpisodeClassifier(core, label_size, mean)
        if config.carries:
            model = PersistentClassifier(core, label_size, config.batch_size, mean)
    except ValueError as error:
        raise command_error(error, config) from error
    start_inputs(model.recurrent, config.image_shape, config.input_smoothness, config.input_gain)
    if not config.feed_reads:
        hide_reads(model.recurrent)
    if config.initial_strength is not None:
        start_strengths(model.recurrent, config.initial_strength)
    return model


class OneShotExperiment(OfSplit):
    """One-shot classification: cross entropy over all answers that are due, accuracy by the presentation of a class.

    Under a curriculum, validation keeps the number of classes that training begins with, so that its numbers compare.
    """

    unit = "episodes"
    num_sums = 2 + 2 * len(INSTANCES)
    config: OneShotConfig

    def __init__(self, config: OneShotConfig) -> None:
        self.config = config
        self.split = load_split(config, config.original)
        self.sampler = training_sampler(config, self.split.train)
        self.unseen = test_sampler(config, self.split.test, VALIDATION_SEED)

    def make_model(self) -> EpisodeClassifier:
        model = make_model(self.config)
        if model.mean is not None and not model.mean.is_meta:
            model.mean[: self.config.pixels] = self.mean_image()
        return model

    def mean_image(self) -> Tensor:
        """The mean (pixels,) of the images of the first batches of training, 20,000 or a few more."""
        batch, shown = self.config.batch_size, self.config.batch_size * self.config.length
        sums = [self.sampler.sample(batch, step).inputs.sum((0, 1)) for step in range(-(-MEAN_OF // shown))]
        return torch.stack(sums).sum(0)[: self.config.pixels].cpu() / (len(sums) * shown)

    def sample(self, step: int, device: torch.device) -> Episodes:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Episodes:
        """The episodes ``rows`` of the batch of ``step``; of a memory that is not wiped, all."""
        if self.config.carries and rows != slice(None):
            raise CommandError("--persistent trains in one process: its memories belong to the rows of the batch")
        config = self.config.at_step(step)
        if config.classes != self.sampler.num_classes:
            self.sampler = training_sampler(config, self.split.train)
        return on_device(self.sampler.sample(config.batch_size, step, rows), device)

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
