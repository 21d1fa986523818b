"""Zero-shot classification: its data and its model; loss and accuracy are those of few-shot classification."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mannkern.experiments.characters import OfSplit, load_characters
from mannkern.experiments.few_shot.experiment import MEASURED_QUERIES, QueryExperiment
from mannkern.experiments.meta_memory import meta_memory_network
from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.models import ConvEmbedding, MetaMemoryNetwork
from mannkern.tasks import CharacterSplit, ZeroShotSampler, omniglot
from mannkern.tasks.characters.descriptions import ATTRIBUTES
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error


def load(config: ZeroShotConfig) -> tuple[CharacterSplit, CharacterSplit | None]:
    """The drawings of both parts of a split, and the alphabets of their classes, None where no description has them."""
    return load_characters(config), omniglot.alphabets(config.split) if config.names_alphabets else None


def sampler_of(config: ZeroShotConfig, images: Tensor, alphabets: Tensor | None, **others: Any) -> ZeroShotSampler:
    """Episodes of described classes. Raises ``CommandError`` for impossible sizes.

    others: the arguments in which episodes to learn from differ from those to measure on
    """
    try:
        return ZeroShotSampler(
            images,
            alphabets=alphabets,
            num_alphabets=len(omniglot.ALPHABETS),
            classes_per_episode=config.classes,
            **{"queries": MEASURED_QUERIES} | others,
        )
    except ValueError as error:
        raise command_error(error, config) from error


def make_model(config: ZeroShotConfig) -> MetaMemoryNetwork:
    """Two layers embed a description; without the data. Raises ``CommandError`` for impossible sizes."""
    described = ATTRIBUTES + (len(omniglot.ALPHABETS) if config.names_alphabets else 0)
    describe = nn.Sequential(nn.Linear(described, config.width), nn.ReLU(), nn.Linear(config.width, config.width))
    return meta_memory_network(config, ConvEmbedding(config.width), config.width, config.classes, describe=describe)


class ZeroShotExperiment(OfSplit, QueryExperiment):
    """C-way zero-shot classification: cross entropy and accuracy over all queries."""

    config: ZeroShotConfig
    split: CharacterSplit
    sampler: ZeroShotSampler

    def __init__(self, config: ZeroShotConfig) -> None:
        self.config = config
        self.split, self.alphabets = load(config)
        training = {name: getattr(config, name) for name in ("queries", "rotate_classes", "augment", "seed")}
        self.sampler = sampler_of(config, self.split.train, self.alphabets and self.alphabets.train, **training)
        self.unseen = self.test_sampler(VALIDATION_SEED)

    def test_sampler(self, seed: int) -> ZeroShotSampler:
        """Episodes of unseen classes: the original drawings, described in the units of the classes of training."""
        told = {"units": self.sampler.units, "seed": seed}
        return sampler_of(self.config, self.split.test, self.alphabets and self.alphabets.test, **told)

    def make_model(self) -> MetaMemoryNetwork:
        return make_model(self.config)
