"""Families of tasks: a step trains one network on a batch of each, and it is judged on each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mannkern.experiments.families.config import FamiliesConfig
from mannkern.experiments.few_shot.experiment import MEASURED_QUERIES, VALIDATION_EPISODES, FewShotScores, measure
from mannkern.experiments.zero_shot.experiment import ZeroShotExperiment
from mannkern.models import MetaMemoryNetwork
from mannkern.tasks import FewShotEpisodes, FewShotSampler, ZeroShotSampler
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error

FAMILIES = ("description", "one", "several")  # what a class is told by: numbers, one example, several examples


class FamiliesExperiment:
    """The loss is the mean over families of the cross entropy of their queries."""

    unit = "episodes"
    num_sums = 2 * len(FAMILIES)

    def __init__(self, config: FamiliesConfig) -> None:
        self.config = config
        self.described = ZeroShotExperiment(config)
        training = {name: getattr(config, name) for name in ("queries", "rotate_classes", "augment", "seed")}
        examples = self._examples(self.described.split.train, **training)
        self.samplers: tuple[ZeroShotSampler | FewShotSampler, ...] = (self.described.sampler, *examples)

    def _examples(self, images: Tensor, **arguments: Any) -> list[FewShotSampler]:
        try:
            return [
                FewShotSampler(images, classes_per_episode=self.config.classes, shots=shots, **arguments)
                for shots in (1, self.config.shots)
            ]
        except ValueError as error:
            raise command_error(error, self.config) from error

    def test_samplers(self, seed: int) -> tuple[ZeroShotSampler | FewShotSampler, ...]:
        """Episodes of unseen classes of each family: the original drawings."""
        examples = self._examples(self.described.split.test, queries=MEASURED_QUERIES, seed=seed)
        return self.described.test_sampler(seed), *examples

    def data_digest(self) -> str | None:
        return self.described.data_digest()

    def make_model(self) -> MetaMemoryNetwork:
        return self.described.make_model()

    def sample(self, step: int, device: torch.device) -> tuple[FewShotEpisodes, ...]:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> tuple[FewShotEpisodes, ...]:
        """The episodes ``rows`` of the batch of each family, which draws classes of its own."""
        number = len(FAMILIES)
        batches = [
            sampler.sample(self.config.batch_size, number * step + place, rows)
            for place, sampler in enumerate(self.samplers)
        ]
        return tuple(FewShotEpisodes(*(x.to(device) for x in batch)) for batch in batches)

    def loss_and_sums(self, model: nn.Module, batch: tuple[FewShotEpisodes, ...]) -> tuple[Tensor, Tensor]:
        """Loss and [correct, queries] of each family."""
        losses, sums = zip(*(self.described.loss_and_sums(model, part) for part in batch), strict=True)
        return torch.stack(losses).mean(), torch.cat(sums)

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``accuracy``, the mean over families, and ``accuracy_by_family``."""
        shares = [right / of for right, of in zip(sums[::2], sums[1::2], strict=True)]
        return _summary(shares)

    def progress_text(self, summary: dict[str, Any]) -> str:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in summary["accuracy_by_family"].items())
        return f"accuracy by {shares}"

    def measure(self, model: nn.Module, seed: int, episodes: int, device: torch.device) -> dict[str, FewShotScores]:
        """Scores on ``episodes`` episodes of unseen classes of each family."""
        samplers = zip(FAMILIES, self.test_samplers(seed), strict=True)
        return {name: measure(model, sampler, episodes, device) for name, sampler in samplers}

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Accuracy on episodes of unseen classes, by family."""
        scores = self.measure(model, VALIDATION_SEED, VALIDATION_EPISODES, device)
        return _summary([score.accuracy for score in scores.values()])


def _summary(shares: list[float]) -> dict[str, Any]:
    return {"accuracy": sum(shares) / len(shares), "accuracy_by_family": dict(zip(FAMILIES, shares, strict=True))}
