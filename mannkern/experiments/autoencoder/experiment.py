"""The autoencoder of drawings: its data, its loss, and the accuracy of the nearest neighbour in its codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.autoencoder.config import AutoencoderConfig
from mannkern.experiments.characters import OfSplit, load_characters
from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.experiment import test_sampler
from mannkern.experiments.one_shot.scores import Scores, measure
from mannkern.models import Autoencoder, EncodedNeighbours
from mannkern.tasks import CharacterSplit, DrawingSampler
from mannkern.training.experiment import VALIDATION_SEED

VALIDATION_EPISODES = 100
SHAPES = {5: (50, True), 15: (100, False)}  # classes: length and whether balanced, as in Table 2


def episodes_of(config: AutoencoderConfig, classes: int) -> OneShotConfig:
    """The settings of the paper's episodes of so many classes, with strings as labels."""
    length, balanced = SHAPES[classes]
    return OneShotConfig(
        task=config.task.removeprefix("autoencoder-"),
        data=config.data,
        split=config.split,
        classes=classes,
        length=length,
        balanced=balanced,
        labels="strings",
        image_scale="255",
    )


def score(
    model: nn.Module, config: AutoencoderConfig, images: Tensor, classes: int, seed: int, episodes: int,
    device: torch.device,
) -> Scores:  # fmt: skip
    """Accuracy of the nearest neighbour, k = 1 as in the paper, in the codes of ``model``."""
    sampler = test_sampler(episodes_of(config, classes), images, seed)
    assert isinstance(model, Autoencoder)
    return measure(EncodedNeighbours(model.encoder, sampler.label_size).to(device), sampler, episodes, device)


def make_model(config: AutoencoderConfig) -> Autoencoder:
    """A new autoencoder, without the data."""
    return Autoencoder(config.pixels, (config.hidden_size, config.hidden_size, config.width))


class AutoencoderExperiment(OfSplit):
    """The loss is the mean binary cross entropy of a pixel, whose shade is a probability."""

    unit = "drawings"
    num_sums = 1
    config: AutoencoderConfig
    split: CharacterSplit

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.split = split = load_characters(config)
        self.sampler = DrawingSampler(
            split.train, rotate_classes=config.rotate_classes, augment=config.augment, seed=config.seed
        )
        self.unseen = DrawingSampler(split.test, seed=VALIDATION_SEED).sample(1000, 0)

    def make_model(self) -> Autoencoder:
        return make_model(self.config)

    def sample(self, step: int, device: torch.device) -> Tensor:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Tensor:
        """The drawings ``rows`` of the batch of ``step``."""
        return self.sampler.sample(self.config.batch_size, step, rows).to(device)

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and [squared error of a pixel], summed over drawings."""
        logits = model(batch)
        error = (torch.sigmoid(logits.detach()) - batch).square().mean(1).double().sum()
        return F.binary_cross_entropy_with_logits(logits, batch), error.unsqueeze(0)

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``mean_squared_error`` of a pixel."""
        return {"mean_squared_error": sums[0] / (steps * self.config.batch_size)}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"error of a pixel {summary['mean_squared_error']:.4f}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """The loss on drawings of unseen classes, and the accuracy of the nearest neighbour with 5 classes."""
        scores = score(model, self.config, self.split.test, 5, VALIDATION_SEED, VALIDATION_EPISODES, device)
        with torch.no_grad():
            loss = F.binary_cross_entropy_with_logits(model(self.unseen.to(device)), self.unseen.to(device))
        summary = scores.summary(INSTANCES)
        return {"loss": float(loss), **{name: summary[name] for name in ("accuracy", "accuracy_by_instance")}}
