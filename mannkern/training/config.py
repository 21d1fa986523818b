"""The settings of a training run: one definition for the command line, ``config.json`` and the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from .errors import CommandError

# What may differ when a run is resumed: how long, where and how often it saves, never what it computes.
CHANGEABLE = frozenset({"steps", "minutes", "baseline", "data", "device", "threads", "save_seconds"})

MEMORIES = ("mann", "ntm")  # models with a memory that is written
OMNIGLOT = ("omniglot", "few-shot-omniglot")

CURRICULUM_EPISODES = 10_000  # of training with each number of classes
CURRICULUM_CLASSES = 100  # the most

Config = TypeVar("Config", bound="RunConfig")


def number_or_name(text: str) -> float | str:
    """``"1e-6"`` is a number, ``"uniform"`` a name."""
    try:
        return float(text)
    except ValueError:
        return text


def option(
    default: Any,
    about: str,
    *,
    kind: Callable[[str], Any] | None = None,
    choices: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> Any:
    """A field with what ``--help`` says of it; ``kind`` reads it from the command line (else its type does).

    only: the models, or the tasks, that it applies to, where it does nothing with the others.
    """
    metadata = {"about": about, "kind": kind or type(default), "choices": choices, "only": only}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunConfig:
    """What the settings of every task have in common.

    Raises ``ValueError`` naming the setting where a number is out of range or a name is none of its choices.
    """

    task: str = option("", "what to learn")
    memory: str = option("", "the model")
    backend: str | None = option(None, "backend of the memory step (default: the fastest that is there)", kind=str)
    optimizer: str = option(
        "adam", "adam (replications) or rmsprop (paper: decay 0.95, momentum 0.9)", choices=("adam", "rmsprop")
    )
    lr: float | None = option(
        None, "learning rate (default: 1e-3 for adam, replications; 1e-4 for rmsprop, paper)", kind=float
    )
    clip: float = option(10.0, "largest norm of the gradient (replications)")
    batch_size: int = option(16, "examples in a step")
    steps: int | None = option(None, "stop at this step", kind=int)
    minutes: float | None = option(
        None, "stop after so many minutes of training, counted over all resumptions", kind=float
    )
    seed: int = option(0, "seed of the parameters and the data")
    log_every: int = option(10, "steps between lines of metrics.jsonl")
    validate_every: int = option(100, "steps between validations")
    save_seconds: float = option(30.0, "seconds between checkpoints")
    device: str = option("cpu", "cpu, cuda, cuda:1, ...")
    threads: int | None = option(None, "threads of torch (default: torch's own choice)", kind=int)

    GROUP: ClassVar[str] = "training"  # heads the settings of a class in --help
    FAMILY: ClassVar[str]  # see family
    DEFAULT_STEPS: ClassVar[int]
    COUNTS: ClassVar[tuple[str, ...]] = ("batch_size", "log_every", "validate_every", "threads")  # at least 1

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, choices = getattr(self, entry.name), entry.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{flag(entry)} is {value}, needs to be one of {', '.join(choices)}")
        for name in self.COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}, needs to be at least 1")
        for name in ("lr", "clip", "minutes"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"--{name} is {value}, needs to be above 0")
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"--steps is {self.steps}, needs to be at least 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, booleans and None: fit for JSON and for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """The reverse of ``to_dict``. Raises ``CommandError`` for a setting that this version does not know."""
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise CommandError(
                f"the run has settings that this version of mannkern does not know: {', '.join(unknown)}"
            )
        return cls(**values)

    @property
    def family(self) -> str:
        """Of the operations that the memory is made of."""
        return self.FAMILY

    @property
    def comparable(self) -> tuple[Any, ...]:
        """Runs in which these agree are measured on the same data."""
        return (self.task,)

    @property
    def step_limit(self) -> float:
        """``steps``; without it ``DEFAULT_STEPS``, or none where ``minutes`` limits the run."""
        if self.steps is not None:
            return self.steps
        return self.DEFAULT_STEPS if self.minutes is None else math.inf

    @property
    def second_limit(self) -> float:
        """``minutes`` in seconds, or infinity."""
        return math.inf if self.minutes is None else 60 * self.minutes


@dataclass(frozen=True)
class RecurrentConfig(RunConfig):
    """Settings of tasks that are learned step by step, with a memory that is written as well as read."""

    memory_slots: int = option(128, "slots N of the memory (paper)", only=MEMORIES)
    memory_init: float | str = option(
        1e-6, "a number (1e-6: replications), uniform or learned", kind=number_or_name, only=MEMORIES
    )
    baseline: bool = option(False, "then train an LSTM alone on the same data, into RUN/lstm, to stand beside")

    GROUP: ClassVar[str] = "the memory"


@dataclass(frozen=True)
class CharacterConfig(RunConfig):
    """Settings of tasks whose episodes are made of drawn characters, from Omniglot or of procedural glyphs."""

    data: str | None = option(None, "folder of Omniglot, unpacked or as its zip files; needed", kind=str, only=OMNIGLOT)
    split: str = option(
        "paper",
        "how Omniglot's classes part: 1200 random ones to train (paper), or its alphabets",
        choices=("paper", "alphabets"),
        only=OMNIGLOT,
    )
    classes: int = option(5, "classes in an episode (paper)")
    augment: bool = option(True, "shift and rotate training drawings at random (paper)")
    rotate_classes: bool = option(True, "quarter turns of training classes are new classes (paper)")

    GROUP: ClassVar[str] = "episodes"

    @property
    def omniglot(self) -> bool:
        """Whether episodes come from Omniglot, which has to be there."""
        return self.task.endswith("omniglot")


@dataclass(frozen=True)
class TrainConfig(RecurrentConfig, CharacterConfig):
    """Settings for episodes of characters. "Paper" is Santoro et al. 2016; "replications" are its reimplementations.

    Raises as ``RunConfig``.
    """

    task: str = option(
        "glyphs", "where episodes come from; glyphs are procedural and need no download", choices=("omniglot", "glyphs")
    )
    length: int = option(50, "time steps of an episode (paper: 10 for each of 5 classes)")
    balanced: bool = option(
        True, "each class equally often; else drawings of all classes at random (paper: 15 classes in 100 steps)"
    )
    labels: str = option(
        "one-hot",
        "what classes are called: a number (paper, Table 1) or five letters a to e, drawn for each episode (Table 2)",
        choices=("one-hot", "strings"),
    )
    curriculum: bool = option(
        False,
        "one class more each 10,000 episodes of training, up to 100, and length in proportion (paper: from 15 classes "
        "and 150 steps); needs --labels strings",
    )
    memory: str = option(
        "mann",
        "the model: a controller with a memory addressed by LRUA (mann) or as the NTM's is (ntm); or without one the "
        "paper's baselines, an LSTM or a tanh layer",
        choices=("mann", "ntm", "lstm", "feedforward"),
    )
    controller: str = option(
        "lstm",
        "controller of the memory (paper: lstm is the better one)",
        choices=("lstm", "feedforward"),
        only=MEMORIES,
    )
    hidden_size: int = option(200, "hidden units of the controller (paper)")
    memory_width: int = option(40, "width W of a slot (paper)", only=MEMORIES)
    num_reads: int = option(4, "read heads R (paper)", only=MEMORIES)
    least_used: str = option(
        "shared",
        "one set of least-used slots for all heads (paper) or one slot a head (replications)",
        choices=("shared", "per_head"),
        only=("mann",),
    )
    decay: float = option(0.99, "decay of usage (paper; replications use 0.95)", only=("mann",))
    key_strength: bool = option(
        False, "learn how sharply a key addresses (paper: no; many replications: yes)", only=("mann",)
    )
    batch_size: int = option(16, "episodes in a step (paper)")
    steps: int | None = option(
        None,
        "stop at this step (default: 6250, the paper's 100,000 episodes of 16 a step; no limit if --minutes is given)",
        kind=int,
    )

    GROUP: ClassVar[str] = "episodes and the model"
    FAMILY: ClassVar[str] = "lrua"
    DEFAULT_STEPS: ClassVar[int] = 6250
    COUNTS: ClassVar[tuple[str, ...]] = ("classes", "length", *RunConfig.COUNTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curriculum and self.labels != "strings":
            raise ValueError("--curriculum needs --labels strings: a one-hot label has as many entries as classes")

    def with_classes(self, classes: int) -> TrainConfig:
        """The same with so many classes in an episode, shown as often as before."""
        return replace(self, classes=classes, length=self.length * classes // self.classes)

    def at_step(self, step: int) -> TrainConfig:
        """Settings of the episodes of a training step: the curriculum's, section 4.2.2 of the paper."""
        if not self.curriculum:
            return self
        classes = self.classes + step * self.batch_size // CURRICULUM_EPISODES
        return self.with_classes(max(self.classes, min(classes, CURRICULUM_CLASSES)))

    @property
    def family(self) -> str:
        """Of the operations that the memory is made of."""
        return "ntm" if self.memory == "ntm" else self.FAMILY

    @property
    def comparable(self) -> tuple[Any, ...]:
        """Runs in which these agree are measured on the same episodes."""
        return self.task, self.classes, self.length, self.balanced, self.labels, self.split


def flag(entry: Field[Any]) -> str:
    """``--memory-slots`` for the field ``memory_slots``."""
    return "--" + entry.name.replace("_", "-")
