"""Few-shot classification of images: its data and its model; the scores are those of drawn characters."""

from __future__ import annotations

from mannkern.experiments.few_shot.experiment import QueryExperiment
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.experiments.meta_memory import meta_memory_network
from mannkern.models import ConvEmbedding, MetaMemoryNetwork
from mannkern.tasks import ImageSampler, images
from mannkern.tasks.characters.image_set import digest
from mannkern.training.errors import CommandError
from mannkern.training.experiment import VALIDATION_SEED


def make_model(config: FewShotImagesConfig) -> MetaMemoryNetwork:
    """The network, without the data. Raises ``CommandError`` for impossible sizes."""
    return meta_memory_network(config, ConvEmbedding(config.width, channels=3), config.width, config.classes)


class FewShotImagesExperiment(QueryExperiment):
    """C-way K-shot classification: trains on the classes of train.csv, validates on those of val.csv."""

    config: FewShotImagesConfig
    sampler: ImageSampler
    unseen: ImageSampler

    def __init__(self, config: FewShotImagesConfig) -> None:
        self.config = config
        self._check_lists()
        self.sampler = self.sampler_of("train", config.seed)
        self.unseen = self.sampler_of("val", VALIDATION_SEED)

    def _check_lists(self) -> None:
        """Raises ``CommandError`` where a part lacks images or classes: that of the evaluation is read after training.

        The images themselves are decoded where they are needed.
        """
        config = self.config
        if config.data is None:
            raise CommandError(f"{config.task} needs its folder: --data FOLDER")
        for part in images.PARTS:
            try:
                sizes = images.class_sizes(config.data, part)
            except (OSError, ValueError) as error:
                raise CommandError(f"images of {config.data}: {error}") from error
            if len(sizes) < config.classes:
                raise CommandError(f"--classes: got {config.classes}, need at most {len(sizes)}, those of {part}.csv")
            fewest = min(sizes, key=sizes.__getitem__)
            if config.shots + config.queries > sizes[fewest]:
                raise CommandError(
                    f"--shots and --queries: got {config.shots} and {config.queries}, need at most {sizes[fewest]} "
                    f"together, the images of the class {fewest!r} in {part}.csv"
                )

    def sampler_of(self, part: str, seed: int) -> ImageSampler:
        """Episodes of a part. Raises ``CommandError`` for impossible sizes, and where its images cannot be read."""
        config = self.config
        assert config.data is not None  # the lists were read
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

    def data_digest(self) -> str:
        """SHA-256 of the images of training and validation, in the order of the lists."""
        return digest((self.sampler.images, self.unseen.images))

    def make_model(self) -> MetaMemoryNetwork:
        return make_model(self.config)
