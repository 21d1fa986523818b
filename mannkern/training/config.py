"""The settings of a run: one dataclass defines the command line, ``config.json`` and the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import torch

from mannkern.optim import OUTPUT_LAYERS
from mannkern.training.errors import CommandError
from mannkern.training.flags import flag
from mannkern.training.trackers import NO_TRACKER, TRACKERS

# What may change when a run resumes: how long, where and how often it saves, never what it computes.
CHANGEABLE = frozenset({"steps", "minutes", "until", "baseline", "data", "device", "threads", "save_seconds", "log"})

# Names in the files of earlier versions, and on their command line.
RENAMED = {"memory": "model", "read_heads": "num_reads", "write_heads": "num_writes", "window": "running_sums"}

OPTIMIZERS = ("muon", "adam", "rmsprop")
OPTIMIZER_HELP = (
    "muon (steps of weight matrices and kernels orthogonalised, adam's for the rest), adam, or rmsprop (decay 0.95, "
    "momentum 0.9)"
)
MODEL_GROUP = "the model"  # a heading in --help
MOST_THREADS = 1024  # a system that has no room for more would end the process
LARGEST = torch.finfo(torch.float32).max  # a larger number would be infinite in a tensor
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "None": (type(None),)}

Config = TypeVar("Config", bound="RunConfig")
Names = tuple[str, ...] | Callable[[], tuple[str, ...]]
"""Names, or a function that returns them at the time of the call: a registry may still grow."""


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
    choices: Names = (),
    only: Names = (),
    group: str = "",
) -> Any:
    """A field of the settings that is also an option of the command line.

    about: what ``--help`` says; kind: reads the value from the command line, by default the type of ``default`` does
    choices: the values that it may have, by default any
    only: the models, or the tasks, that the setting applies to, by default all; it has no effect with the others
    group: its heading in ``--help``, by default that of the most basic class that has the setting
    """
    metadata = {"about": about, "kind": kind or type(default), "choices": choices, "only": only, "group": group}
    return field(default=default, metadata=metadata)


def choices_of(entry: Field[Any]) -> tuple[str, ...]:
    """The values that a setting may have; empty where any will do."""
    return _evaluated(entry.metadata["choices"])


def only_with(entry: Field[Any]) -> tuple[str, ...]:
    """The models, or tasks, that a setting applies to; empty where it applies to all."""
    return _evaluated(entry.metadata["only"])


def _evaluated(names: Names) -> tuple[str, ...]:
    return names() if callable(names) else names


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` of an earlier version under the names of this one (``RENAMED``)."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def _size(value: int) -> str:
    """A large number in short. A float holds 308 digits, and Python writes none of more than 4,300."""
    return f"{value:.3e}" if abs(value) < 10**308 else f"a number of {value.bit_length():,} bits"


def _check_type(entry: Field[Any], value: Any) -> None:
    """Raises ``ValueError`` for a value of another type than the setting's, NaN, infinity, and more than 64 bits."""
    kinds = (entry.type.__name__ if isinstance(entry.type, type) else str(entry.type)).split(" | ")
    if entry.default is None:
        kinds.append("None")
    if isinstance(value, bool) or "bool" in kinds:
        fits = isinstance(value, bool) and "bool" in kinds
    else:
        fits = isinstance(value, tuple(kind for name in kinds for kind in _TYPES.get(name, (object,))))
    if not fits:
        raise ValueError(f"{flag(entry.name)}: got {value!r:.80}, need {' or '.join(dict.fromkeys(kinds))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{flag(entry.name)}: got {value}, need a finite number")
    if isinstance(value, float) and abs(value) > LARGEST:
        raise ValueError(f"{flag(entry.name)}: got {value}, need at most {LARGEST:.2e}, float32's largest number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{flag(entry.name)}: got {_size(value)}, need a number below 2**63")


@dataclass(frozen=True)
class RunConfig:
    """The settings that every task has.

    Raises ``ValueError``, naming the setting, where a number is out of range or a name is none of its choices.
    """

    task: str = option("", "what to learn")
    model: str = option("", "the model", group=MODEL_GROUP)
    backend: str | None = option(
        None, "backend of the memory operations (default: the fastest that this machine has)", kind=str
    )
    optimizer: str = option("adam", OPTIMIZER_HELP, choices=OPTIMIZERS)
    lr: float | None = option(
        None, "learning rate (default: 1e-2 for muon, 1e-3 for adam, 1e-4 for rmsprop)", kind=float
    )
    lr_decay: str = option(
        "none",
        "how the learning rate falls to 0 over --decay-steps",
        choices=("none", "linear", "cosine"),
    )
    decay_steps: int | None = option(
        None, "steps over which the learning rate falls; needs --lr-decay (default: --steps)", kind=int
    )
    clip: float = option(10.0, "largest norm of the gradient; 0: no limit")
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
    threads: int | None = option(
        None, "threads of torch (default: one or all, whichever is faster at the start)", kind=int
    )

    log: str = option(
        NO_TRACKER, "also send the metrics to this service, if it is installed", choices=(NO_TRACKER, *TRACKERS)
    )

    GROUP: ClassVar[str] = "training"  # the heading of a class's settings in --help
    FAMILY: ClassVar[str]  # see family
    DEFAULT_STEPS: ClassVar[int]
    DEEPEST: ClassVar[int] = 1000  # layers, and steps within one of training: all take as long as there are
    COUNTS: ClassVar[tuple[str, ...]] = ("batch_size", "log_every", "validate_every", "threads", "decay_steps")  # >= 1
    RECIPES: ClassVar[dict[str, dict[str, Any]]] = {}  # defaults of a new run, by the name that --recipe gives
    RATES: ClassVar[dict[str, float]] = {"muon": 1e-2, "adam": 1e-3, "rmsprop": 1e-4}  # learning rates by default
    EARLIER: ClassVar[dict[str, Any]] = {}  # what runs did before a setting existed, where it is not the default
    OUTPUT_LAYERS: ClassVar[tuple[str, ...]] = OUTPUT_LAYERS  # names of the last layers, which keep Adam under Muon
    RMSPROP: ClassVar[dict[str, Any]] = {}  # arguments of torch.optim.RMSprop beyond decay and momentum

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, choices = getattr(self, entry.name), choices_of(entry)
            _check_type(entry, value)
            if choices and value not in choices:
                raise ValueError(f"{flag(entry.name)}: got {value}, need one of {', '.join(choices)}")
        for name in self.COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{flag(name)}: got {value}, need at least 1")
        for name in ("layers", "lstm_layers", "blocks", "inner_steps", "context_steps"):
            if getattr(self, name, 0) > self.DEEPEST:
                raise ValueError(f"{flag(name)}: got {getattr(self, name)}, need at most {self.DEEPEST}")
        for name in ("lr", "minutes"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"{flag(name)}: got {value}, need a number above 0")
        if not (0 <= self.clip < math.inf):
            raise ValueError(f"--clip: got {self.clip}, need at least 0")
        if self.lr_decay == "none" and self.decay_steps is not None:
            raise ValueError("--decay-steps needs --lr-decay linear or cosine")
        if self.lr_decay != "none" and not (0 < self.falling_steps < math.inf):
            raise ValueError("--lr-decay needs --decay-steps or --steps")
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"--steps: got {self.steps}, need at least 0")
        if self.seed < 0:
            raise ValueError(f"--seed: got {self.seed}, need at least 0")
        if self.save_seconds < 0:
            raise ValueError(f"--save-seconds: got {self.save_seconds}, need at least 0")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ValueError(f"--threads: got {self.threads}, need at most {MOST_THREADS}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, booleans and None: fit for JSON and for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """The reverse of ``to_dict``, which also takes the names of earlier versions.

        Raises ``CommandError`` for a setting that this version does not know.
        """
        values = cls.EARLIER | current_names(values)
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise CommandError(
                f"the run has settings that this version of mannkern does not know: {', '.join(unknown)}"
            )
        return cls(**values)

    def check_new(self) -> None:
        """Raises ``CommandError`` where a new run with these settings cannot begin, for lack of data for instance."""

    def completed(self: Config) -> Config:
        """These settings with those that the data of a new run decide. Raises ``CommandError`` as ``check_new``."""
        return self

    def baseline_at(self, step: int) -> RunConfig | None:
        """Settings of the baseline to train for ``step`` steps beside this run; None if it has no baseline."""
        return None

    def is_reached(self, measured: Mapping[str, Any]) -> bool:
        """Whether a validation has reached the goal at which training ends; False where there is no goal."""
        return False

    def numbers_of_batch(self) -> int:
        """How many numbers a batch and the memories of its examples have at least."""
        return self.batch_size

    @property
    def family(self) -> str:
        """The family of operations whose backend the run needs."""
        return self.FAMILY

    @property
    def operation(self) -> dict[str, Any]:
        """The operation that suffices in place of its family's, and its sizes, as ``backends.choose`` takes them."""
        return {}

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The settings that two runs must share to be evaluated on the same data."""
        return (self.task,)

    @property
    def step_limit(self) -> float:
        """``steps``; without it ``DEFAULT_STEPS``, or none where ``minutes`` limits the run."""
        if self.steps is not None:
            return self.steps
        return self.DEFAULT_STEPS if self.minutes is None else math.inf

    @property
    def falling_steps(self) -> float:
        """Steps after which the learning rate is 0; infinity where it does not fall."""
        if self.lr_decay == "none":
            return math.inf
        return max(1, self.step_limit) if self.decay_steps is None else self.decay_steps  # a run may have no step

    @property
    def second_limit(self) -> float:
        """``minutes`` in seconds, or infinity."""
        return math.inf if self.minutes is None else 60 * self.minutes
