"""Few-shot classification of images: its data and its model; the scores are those of drawn characters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.few_shot.experiment import VALIDATION_EPISODES, measure
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.models import ConvEmbedding, MetaMemoryNetwork
from mannkern.tasks import FewShotEpisodes, ImageSampler, images
from mannkern.training.errors import CommandError
from mannkern.training.experiment import VALIDATION_SEED


class FewShotImagesExperiment:
    """C-way K-shot classification: trains on the classes of train.csv, validates on those of val.csv."""

    unit = "episodes"
    num_sums = 2

    def __init__(self, config: FewShotImagesConfig) -> None:
        self.config = config
        self.sampler = self.sampler_of("train", config.seed)
        self.unseen = self.sampler_of("val", VALIDATION_SEED)

    def sampler_of(self, part: str, seed: int) -> ImageSampler:
        """Episodes of a part. Raises ``CommandError`` for impossible sizes, and where its images cannot be read."""
        config = self.config
        if config.data is None:
            raise CommandError(f"{config.task} needs its folder: --data FOLDER")
        try:
            return ImageSampler(
                images.load(config.data, part, config.side),
                classes_per_episode=config.classes,
                shots=config.shots,
                queries=config.queries,
                seed=seed,
            )
        except (OSError, ValueError, ImportError) as error:
            raise CommandError(f"images of {config.data}: {error}") from error

    def make_model(self) -> MetaMemoryNetwork:
        """Raises ``CommandError`` for impossible sizes."""
        config = self.config
        try:
            return MetaMemoryNetwork(
                ConvEmbedding(config.width, channels=3),
                config.width,
                config.classes,
                hidden_size=config.hidden_size,
                layers=config.layers,
                steps=config.inner_steps,
                step_size=config.step_size,
                first_order=config.first_order,
                backend=config.backend,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error

    def sample(self, step: int, device: torch.device) -> FewShotEpisodes:
        return FewShotEpisodes(*(x.to(device) for x in self.sampler.sample(self.config.batch_size, step)))

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
        """Loss and accuracy on episodes of the classes of val.csv."""
        scores = measure(model, self.unseen, VALIDATION_EPISODES, device)
        return {"loss": scores.loss, "accuracy": scores.accuracy}
