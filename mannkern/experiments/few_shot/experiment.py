"""Few-shot classification of characters: its data, its loss, and its accuracy on queries."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.characters import OfSplit, load_split
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.models import make_model
from mannkern.tasks import FewShotEpisodes, FewShotSampler, ImageSampler, ZeroShotSampler
from mannkern.tasks.characters.image_set import ImageSet, fewest
from mannkern.training.config import RunConfig
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval

VALIDATION_EPISODES = 100
MEASURED_QUERIES = 5  # of each class, whatever number a run trains with, so that runs compare
MEASURED_DRAWINGS = 1000  # in a batch, about


def training_sampler(config: FewShotConfig, images: Tensor | ImageSet) -> FewShotSampler:
    """Episodes to learn from, augmented as ``config`` says. Raises ``CommandError`` for impossible sizes."""
    try:
        return FewShotSampler(
            images,
            classes_per_episode=config.classes,
            shots=config.shots,
            queries=config.queries,
            rotate_classes=config.rotate_classes,
            augment=config.augment,
            seed=config.seed,
            max_shift=config.max_shift,
        )
    except ValueError as error:
        raise command_error(error, config) from error


def test_sampler(config: FewShotConfig, images: Tensor | ImageSet, seed: int) -> FewShotSampler:
    """Episodes to measure on: the original drawings, with ``MEASURED_QUERIES`` queries of each class, or all it has."""
    queries = max(1, min(MEASURED_QUERIES, fewest(images) - config.shots))
    try:
        return FewShotSampler(
            images, classes_per_episode=config.classes, shots=config.shots, queries=queries, seed=seed
        )
    except ValueError as error:
        raise command_error(error, config) from error


class FewShotScores(NamedTuple):
    """Scores on ``episodes`` episodes: cross entropy in nats, accuracy, and half the width of its 95% interval.

    The interval is over the episodes' own accuracies, because the queries of one episode are not independent.
    """

    episodes: int
    loss: float
    accuracy: float
    interval: float

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON."""
        values = self._asdict()
        values["interval_95"] = values.pop("interval")
        return values


def measure(
    model: nn.Module, sampler: FewShotSampler | ZeroShotSampler | ImageSampler, episodes: int, device: torch.device
) -> FewShotScores:
    """Score ``model`` on the sampler's first ``episodes`` episodes. Torch's generator stays as it was."""
    losses, accuracies = [], []
    drawings = sampler.num_classes * (sampler.shots + sampler.queries)
    size = max(1, MEASURED_DRAWINGS // drawings)
    with eval_mode(model, device):
        for index, start in enumerate(range(0, episodes, size)):
            batch = _on(sampler.sample(min(size, episodes - start), index), device)
            logits = model(batch.support, batch.labels, batch.queries)
            loss = F.cross_entropy(logits.movedim(-1, 1), batch.targets, reduction="none")
            losses.append(loss.double().mean(1).cpu())
            accuracies.append((logits.argmax(-1) == batch.targets).double().mean(1).cpu())
    return FewShotScores(episodes, float(torch.cat(losses).mean()), *mean_and_interval(torch.cat(accuracies)))


class QueryExperiment:
    """What experiments share whose episodes ask queries: cross entropy and accuracy over all of them."""

    unit = "episodes"
    num_sums = 2
    config: RunConfig
    sampler: FewShotSampler | ZeroShotSampler | ImageSampler  # of training
    unseen: FewShotSampler | ZeroShotSampler | ImageSampler  # of validation

    def sample(self, step: int, device: torch.device) -> FewShotEpisodes:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> FewShotEpisodes:
        """The episodes ``rows`` of the batch of ``step``."""
        return _on(self.sampler.sample(self.config.batch_size, step, rows), device)

    def loss_and_sums(self, model: nn.Module, batch: FewShotEpisodes) -> tuple[Tensor, Tensor]:
        """Loss and [correct, queries]."""
        logits = model(batch.support, batch.labels, batch.queries)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        correct = (logits.detach().argmax(-1) == batch.targets).sum()
        return loss, torch.stack((correct, torch.full_like(correct, batch.targets.numel()))).double()

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``accuracy``."""
        correct, queries = sums
        return {"accuracy": correct / queries}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"accuracy {summary['accuracy']:.1%}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Loss and accuracy on episodes of unseen classes."""
        scores = measure(model, self.unseen, VALIDATION_EPISODES, device)
        return {"loss": scores.loss, "accuracy": scores.accuracy}


class FewShotExperiment(OfSplit, QueryExperiment):
    """C-way K-shot classification: cross entropy and accuracy over all queries."""

    config: FewShotConfig

    def __init__(self, config: FewShotConfig) -> None:
        self.config = config
        self.split = load_split(config)
        self.sampler = training_sampler(config, self.split.train)
        self.unseen = test_sampler(config, self.split.test, VALIDATION_SEED)

    def make_model(self) -> nn.Module:
        return make_model(self.config)


def _on(episodes: FewShotEpisodes, device: torch.device) -> FewShotEpisodes:
    return FewShotEpisodes(*(tensor.to(device) for tensor in episodes))
