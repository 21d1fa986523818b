"""The settings of one-shot classification. "Paper" is Santoro et al. 2016; "replications" are its reimplementations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mannkern.experiments.characters import CharacterConfig, check_classes
from mannkern.experiments.recurrent import RecurrentConfig
from mannkern.models.cores import CoreSettings, core_names, understanding, with_memory
from mannkern.tasks.characters.pixels import IMAGE_SCALES
from mannkern.training.config import MODEL_GROUP, OPTIMIZER_HELP, OPTIMIZERS, RunConfig, option
from mannkern.training.errors import CommandError

PAPER: dict[str, Any] = {  # the supplement's settings, to the letter
    "augment_at": "original",
    "image_scale": "255",
    "subtract_mean": False,
    "input_smoothness": 0.0,
    "input_gain": 1.0,
    "balanced": False,
    "write": "key",
    "key_strength": False,
    "least_used": "shared",
    "num_least_used": None,  # one for each read
    "decay": 0.99,
    "loss": "sum",
    "optimizer": "rmsprop",
    "lr": 1e-4,
    "clip": 0.0,
    "lr_decay": "none",
}
SHOWN = 10  # drawings of a class in an episode
INSTANCES = (1, 2, 3, 4, 5, 10)  # presentations of a class whose accuracy is reported: columns of the paper's Table 1
CURRICULUM_EPISODES = 10_000  # of training with each number of classes, in the paper
CURRICULUM_CLASSES = 100  # the most


@dataclass(frozen=True)
class OneShotConfig(RecurrentConfig, CharacterConfig):
    """Settings of episodes of characters, each step with a label to answer. Raises as ``RunConfig``."""

    task: str = option(
        "glyphs",
        "where the drawings come from; glyphs are procedural and need no download",
        choices=("omniglot", "glyphs"),
    )
    recipe: str = option(
        "best",
        "which defaults the other settings have: mannkern's own, which learn soonest (best), or those of the paper's "
        "supplement (paper)",
        choices=("best", "paper"),
    )
    length: int = option(None, "time steps of an episode (paper, for 5 classes; 10 for each class)", kind=int)
    balanced: bool = option(
        False, "each class equally often (always so with --shots); else drawings of all at random (paper)"
    )
    shots: int | None = option(
        None,
        "N-way K-shot episodes: so many drawings of each class with their labels, then a "
        "query of each, which alone are to be answered; it sets --length (default: the paper's form)",
        kind=int,
    )
    augment_at: str = option(
        "reduced",
        "turn and shift drawings of 20 x 20 pixels (reduced), or of 105 x 105 and then reduce them (original, paper), "
        "with which a step takes up to three times as long",
        choices=("reduced", "original"),
        only=("omniglot",),
    )
    image_scale: str = option(
        "maximum",
        "what divides the pixels of a drawing: the darkest one (maximum, replications) or full ink (255)",
        choices=IMAGE_SCALES,
    )
    subtract_mean: bool = option(True, "subtract the mean image of the training classes from every image (papers: no)")
    labels: str = option(
        "one-hot",
        "the names of classes: a number (paper, Table 1) or five letters a to e, drawn for each episode (Table 2)",
        choices=("one-hot", "strings"),
    )
    curriculum: bool = option(
        False,
        "one class more each --curriculum-episodes of training, up to 100, and length in proportion (paper: from 15 "
        "classes and 150 steps); needs --labels strings",
    )
    curriculum_episodes: int | None = option(
        None, "episodes with each number of classes; needs --curriculum (default: 10000, paper)", kind=int
    )
    persistent: bool = option(
        False,
        "do not wipe the memory between episodes: each starts with the memory that the one before it left, and with a "
        "new controller's state (paper, figure 3: 10 classes in 75 steps)",
        only=with_memory,
        group=RecurrentConfig.GROUP,
    )
    model: str = option(
        "mann",
        "the model: a controller with a memory addressed by LRUA (mann) or as the NTM's is (ntm); or without one the "
        "paper's baselines, an LSTM or a tanh layer",
        choices=core_names,
    )
    controller: str = option(
        "lstm",
        "controller of the memory (paper: lstm is the better one)",
        choices=("lstm", "feedforward"),
        only=with_memory,
        group=MODEL_GROUP,
    )
    hidden_size: int = option(200, "hidden units of the controller (paper)", group=MODEL_GROUP)
    memory_width: int = option(40, "width W of a slot (paper)", only=with_memory, group=RecurrentConfig.GROUP)
    num_reads: int = option(4, "read heads R (paper)", only=with_memory, group=RecurrentConfig.GROUP)
    least_used: str = option(
        "shared",
        "one set of least-used slots for all heads (paper) or one slot for each head (replications)",
        choices=("shared", "per_head"),
        only=understanding("least_used"),
        group=RecurrentConfig.GROUP,
    )
    num_least_used: int | None = option(
        2,
        "least-used slots of a step (paper: one for each read, which are 200 in an episode for 128 slots)",
        kind=int,
        only=understanding("num_least_used"),
        group=RecurrentConfig.GROUP,
    )
    decay: float = option(
        0.99, "decay of usage (paper; replications use 0.95)", only=understanding("decay"), group=RecurrentConfig.GROUP
    )
    key_strength: bool = option(
        True,
        "learn how sharply a key addresses (paper: no)",
        only=understanding("key_strength"),
        group=RecurrentConfig.GROUP,
    )
    initial_strength: float | None = option(
        None,
        "strength that keys start with, above 1; needs --key-strength (default: 1.7, of a bias of 0)",
        kind=float,
        only=understanding("key_strength"),
        group=RecurrentConfig.GROUP,
    )
    write: str = option(
        "add",
        "what a head writes: a vector of its own (add) or its key (paper)",
        choices=("add", "key"),
        only=understanding("write"),
        group=RecurrentConfig.GROUP,
    )
    input_smoothness: float = option(
        1.5,
        "initial weights for images are smoothed by a Gaussian of this standard deviation, in pixels; 0: each weight "
        "is drawn for itself (papers)",
        group=MODEL_GROUP,
    )
    input_gain: float = option(
        2.0, "factor of the initial weights for images and labels (papers: 1)", group=MODEL_GROUP
    )
    feed_reads: bool = option(
        True,
        "the controller sees what was read in the step before (paper); else only the answer does",
        only=with_memory,
        group=RecurrentConfig.GROUP,
    )
    loss: str = option(
        "mean",
        "cross entropy of an episode: its mean over the steps, or their sum (paper)",
        choices=("mean", "sum"),
        group=RunConfig.GROUP,
    )
    optimizer: str = option("muon", OPTIMIZER_HELP, choices=OPTIMIZERS)
    batch_size: int = option(16, "episodes in a step (paper)")
    validation_episodes: int = option(100, "episodes of a validation", group=RunConfig.GROUP)
    steps: int | None = option(
        None,
        "stop at this step (default: 6250, the paper's 100,000 episodes of 16 a step; no limit if --minutes is given)",
        kind=int,
    )

    until: float | None = option(
        None,
        "stop when a validation has so much accuracy at the 10th presentation of unseen classes, such as 0.9, in "
        "shorter episodes at the last of the 1st to 5th that a class has on average; with --shots at the queries",
        kind=float,
        group=RunConfig.GROUP,
    )

    GROUP: ClassVar[str] = CharacterConfig.GROUP
    FAMILY: ClassVar[str] = "lrua"
    NO_GOAL: ClassVar[dict[str, Any]] = {"until": None}
    EARLIER: ClassVar[dict[str, Any]] = {
        "balanced": True,
        "num_least_used": None,
        "image_scale": "255",
        "subtract_mean": False,
        "input_smoothness": 0.0,
        "input_gain": 1.0,
    }
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {"paper": PAPER}
    DEFAULT_STEPS: ClassVar[int] = 6250
    COUNTS: ClassVar[tuple[str, ...]] = (
        *("classes", "length", "shots", "curriculum_episodes", "validation_episodes"),
        *RunConfig.COUNTS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.input_gain < math.inf):
            raise ValueError(f"--input-gain: got {self.input_gain}, need a number above 0")
        if not (0 <= self.input_smoothness < math.inf):
            raise ValueError(f"--input-smoothness: got {self.input_smoothness}, need 0 or a number above it")
        if self.initial_strength is not None and not (1 < self.initial_strength < 700):
            raise ValueError(f"--initial-strength: got {self.initial_strength}, need a number above 1")
        if self.initial_strength is not None and not self.key_strength:
            raise ValueError("--initial-strength needs --key-strength")
        if self.shots is not None and self.curriculum:
            raise ValueError("--shots does not go with --curriculum, whose classes grow")
        if self.shots is not None:
            object.__setattr__(self, "balanced", True)
        length = self.classes * (SHOWN if self.shots is None else self.shots + 1)
        if self.length is None:
            object.__setattr__(self, "length", length)  # config.json keeps it
        elif self.shots is not None and self.length != length:
            raise ValueError(f"--length: got {self.length}, need {length} with --shots {self.shots}, which sets it")
        if self.curriculum and self.labels != "strings":
            raise ValueError("--curriculum needs --labels strings: a one-hot label has as many entries as classes")
        if self.curriculum_episodes is not None and not self.curriculum:
            raise ValueError("--curriculum-episodes needs --curriculum")
        if self.until is not None and not 0 < self.until <= 1:
            raise ValueError(f"--until: got {self.until}, need an accuracy above 0, at most 1")

    def check_new(self) -> None:
        super().check_new()
        if self.carries and self.memory_init == "learned":
            raise CommandError("--memory-init learned does not go with --persistent: no episode starts from it")
        if self.labels == "one-hot":
            check_classes(self.classes)

    def is_reached(self, measured: Mapping[str, Any]) -> bool:
        if self.until is not None and self.shots is not None:
            return bool(measured["accuracy"] >= self.until)
        known = measured["accuracy_by_instance"][str(self.judged)]
        return self.until is not None and known is not None and known >= self.until

    @property
    def judged(self) -> int:
        """The last of ``INSTANCES`` that a class has on average: the accuracy there says what a model learned.

        Where the numbers of drawings are unequal, few classes come more often, and few answers would decide.
        """
        return max(k for k in INSTANCES if k <= max(1, self.length // self.classes))

    def numbers_of_batch(self) -> int:
        return super().numbers_of_batch() + self.batch_size * self.length * self.pixels

    def with_classes(self, classes: int) -> OneShotConfig:
        """These settings with another number of classes in an episode, each shown as often as before."""
        return replace(self, classes=classes, length=self.length * classes // self.classes)

    def at_step(self, step: int) -> OneShotConfig:
        """Settings of the episodes of a training step. Under a curriculum (paper, section 4.2.2) their classes grow."""
        if not self.curriculum:
            return self
        classes = self.classes + step * self.batch_size // (self.curriculum_episodes or CURRICULUM_EPISODES)
        return self.with_classes(max(self.classes, min(classes, CURRICULUM_CLASSES)))

    def core_settings(self, input_size: int) -> CoreSettings:
        """The settings of the core, with as many write heads as read heads, so that cores compare."""
        return replace(super().core_settings(input_size), num_writes=self.num_reads)

    @property
    def carries(self) -> bool:
        """Whether the model's memory goes on from episode to episode; one without a memory ignores ``persistent``."""
        return self.persistent and self.core.has_memory

    @property
    def original(self) -> bool:
        """Whether drawings are augmented at their original resolution."""
        return self.augment_at == "original"

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same episodes."""
        return self.task, self.classes, self.length, self.balanced, self.shots, self.labels, self.split
