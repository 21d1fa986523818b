"""From settings to data, model and optimizer."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern import backends
from mannkern.models.classifier import EpisodeClassifier
from mannkern.tasks import glyphs, omniglot
from mannkern.tasks.episodes import CharacterSplit, EpisodeSampler

from .config import TrainConfig
from .errors import CommandError


def load_split(config: TrainConfig) -> CharacterSplit:
    """The training and the unseen classes of ``config.task``. Raises ``CommandError`` where Omniglot is not there."""
    if config.task == "glyphs":
        return glyphs.load()
    if config.data is None:
        raise CommandError("omniglot needs its folder: --data FOLDER")
    try:
        return omniglot.load(config.data, split=config.split)
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(f"cannot read Omniglot from {config.data}: {error}") from error


def training_sampler(config: TrainConfig, images: Tensor) -> EpisodeSampler:
    """Episodes to learn from, augmented as ``config`` says. Raises ``CommandError`` for sizes that cannot be."""
    try:
        return EpisodeSampler(
            images,
            classes_per_episode=config.classes,
            length=config.length,
            rotate_classes=config.rotate_classes,
            augment=config.augment,
            seed=config.seed,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


def test_sampler(config: TrainConfig, images: Tensor, seed: int) -> EpisodeSampler:
    """Episodes to measure on: drawings as they were drawn, neither augmented nor turned into new classes."""
    try:
        return EpisodeSampler(images, classes_per_episode=config.classes, length=config.length, seed=seed)
    except ValueError as error:
        raise CommandError(str(error)) from error


def usable_device(config: TrainConfig) -> torch.device:
    """``config.device``. Raises ``CommandError`` where it is not there or ``config.backend`` does not run on it."""
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
        backends.choose(config.backend, device)
    except (RuntimeError, ValueError, AssertionError) as error:  # torch built without CUDA asserts
        raise CommandError(f"--device {config.device}: {str(error).splitlines()[0]}") from error
    return device


def make_model(config: TrainConfig, sampler: EpisodeSampler) -> EpisodeClassifier:
    """A classifier for the sampler's episodes, parameters drawn from torch's generator, on the CPU."""
    try:
        return EpisodeClassifier(
            sampler.input_size,
            sampler.num_classes,
            memory=config.memory,
            hidden_size=config.hidden_size,
            memory_slots=config.memory_slots,
            memory_width=config.memory_width,
            num_reads=config.num_reads,
            controller=config.controller,
            least_used=config.least_used,
            decay=config.decay,
            key_strength=config.key_strength,
            memory_init=config.memory_init,
            backend=config.backend,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


def make_optimizer(config: TrainConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam as in the replications, or RMSprop with the paper's decay 0.95 and momentum 0.9."""
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.lr or 1e-3)
    return torch.optim.RMSprop(model.parameters(), lr=config.lr or 1e-4, alpha=0.95, momentum=0.9)
