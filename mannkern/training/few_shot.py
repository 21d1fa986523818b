"""Few-shot classification as an experiment: Omniglot and glyphs, a support set and queries."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.models.embedding import ConvEmbedding
from mannkern.models.matching import MatchingNetwork
from mannkern.models.meta_memory import MetaMemoryNetwork
from mannkern.models.meta_networks import MetaNetwork
from mannkern.tasks.characters.few_shot import FewShotEpisodes, FewShotSampler

from .build import measuring
from .episodes import load_split
from .errors import CommandError
from .experiment import VALIDATION_SEED
from .few_shot_config import FewShotConfig

VALIDATION_EPISODES = 100
MEASURED_QUERIES = 5  # of each class, whatever a run trains with, so that runs compare
MEASURED_DRAWINGS = 1000  # about as many in a batch


def make_model(config: FewShotConfig) -> nn.Module:
    """``config.memory`` as a module: support (B, N, P, P), labels (B, N), queries (B, Q, P, P) -> logits (B, Q, C).

    Parameters are drawn from torch's generator, on the CPU. Raises ``CommandError`` for sizes that cannot be.
    """
    try:
        if config.memory == "meta-memory":
            return MetaMemoryNetwork(
                ConvEmbedding(config.width),
                config.width,
                config.classes,
                hidden_size=config.hidden_size,
                layers=config.layers,
                steps=config.inner_steps,
                step_size=config.step_size,
                first_order=config.first_order,
                backend=config.backend,
            )
        assert config.strength is not None
        if config.memory == "meta-networks":
            return MetaNetwork(
                config.classes,
                width=config.width,
                augmented_blocks=config.augmented_blocks,
                strength=config.strength,
                backend=config.backend,
            )
        return MatchingNetwork(
            config.classes,
            width=config.width,
            strength=config.strength,
            full_context=config.memory == "matching-fce",
            steps=config.context_steps,
            backend=config.backend,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


def training_sampler(config: FewShotConfig, images: Tensor) -> FewShotSampler:
    """Episodes to learn from, augmented as ``config`` says. Raises ``CommandError`` for sizes that cannot be."""
    try:
        return FewShotSampler(
            images,
            classes_per_episode=config.classes,
            shots=config.shots,
            queries=config.queries,
            rotate_classes=config.rotate_classes,
            augment=config.augment,
            seed=config.seed,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


def test_sampler(config: FewShotConfig, images: Tensor, seed: int) -> FewShotSampler:
    """Episodes to measure on: drawings as they were drawn, ``MEASURED_QUERIES`` of each class, or what there are."""
    queries = max(1, min(MEASURED_QUERIES, images.shape[1] - config.shots))
    try:
        return FewShotSampler(
            images, classes_per_episode=config.classes, shots=config.shots, queries=queries, seed=seed
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


class FewShotScores(NamedTuple):
    """Over ``episodes`` episodes: cross entropy in nats, accuracy, and half the width of its 95% interval (normal).

    The interval is over the episodes' own accuracies, for the queries of one episode are not independent.
    """

    episodes: int
    loss: float
    accuracy: float
    interval: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        values = self._asdict()
        values["interval_95"] = values.pop("interval")
        return values


def measure(model: nn.Module, sampler: FewShotSampler, episodes: int, device: torch.device) -> FewShotScores:
    """Score ``model`` on the sampler's first ``episodes`` episodes; leaves torch's generator as it was."""
    losses, accuracies = [], []
    drawings = sampler.num_classes * (sampler.shots + sampler.queries)
    size = max(1, MEASURED_DRAWINGS // drawings)
    with measuring(model, device):
        for index, start in enumerate(range(0, episodes, size)):
            batch = _on(sampler.sample(min(size, episodes - start), index), device)
            logits = model(batch.support, batch.labels, batch.queries)
            loss = F.cross_entropy(logits.movedim(-1, 1), batch.targets, reduction="none")
            losses.append(loss.double().mean(1).cpu())
            accuracies.append((logits.argmax(-1) == batch.targets).double().mean(1).cpu())
    each = torch.cat(accuracies)
    interval = 1.96 * float(each.std()) / math.sqrt(episodes)
    return FewShotScores(episodes, float(torch.cat(losses).mean()), float(each.mean()), interval)


class FewShotExperiment:
    """C-way K-shot classification: cross entropy and accuracy over all queries."""

    unit = "episodes"
    num_sums = 2

    def __init__(self, config: FewShotConfig) -> None:
        self.config = config
        self.split = load_split(config)
        self.sampler = training_sampler(config, self.split.train)
        self.unseen = test_sampler(config, self.split.test, VALIDATION_SEED)

    def make_model(self) -> nn.Module:
        return make_model(self.config)

    def sample(self, step: int, device: torch.device) -> FewShotEpisodes:
        return _on(self.sampler.sample(self.config.batch_size, step), device)

    def score(self, model: nn.Module, batch: FewShotEpisodes) -> tuple[Tensor, Tensor]:
        """Loss and [correct, queries]."""
        logits = model(batch.support, batch.labels, batch.queries)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        correct = (logits.detach().argmax(-1) == batch.targets).sum()
        return loss, torch.stack((correct, torch.full_like(correct, batch.targets.numel()))).double()

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``accuracy``."""
        correct, queries = sums
        return {"accuracy": correct / queries}

    def remark(self, summary: dict[str, Any]) -> str:
        return f"accuracy {summary['accuracy']:.1%}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Loss and accuracy on episodes of unseen classes."""
        scores = measure(model, self.unseen, VALIDATION_EPISODES, device)
        return {"loss": scores.loss, "accuracy": scores.accuracy}


def _on(episodes: FewShotEpisodes, device: torch.device) -> FewShotEpisodes:
    return FewShotEpisodes(*(tensor.to(device) for tensor in episodes))
