"""Cores: the recurrent module of a model, chosen by name. This registry alone maps a name to a module.

A core maps an episode (T, B, F) to outputs (T, B, ``output_size``). ``register_core`` adds one; from then on the
settings of the tasks offer its name for ``--model``, and every setting that it understands applies to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from mannkern.sequence import MANN, NTM


@dataclass(frozen=True)
class CoreSettings:
    """Settings of a core. Each core reads those that it understands and ignores the others.

    input_size F, hidden_size D; memory_slots N, memory_width W and num_reads R of a memory: the defaults are those of
    Santoro et al. (2016). num_writes and shift_range are an NTM's (:class:`mannkern.NTMCell`); least_used, decay and
    key_strength are LRUA's (:class:`mannkern.MANNCell`). lstm_layers: layers of an LSTM without memory.
    """

    input_size: int
    hidden_size: int = 200
    memory_slots: int = 128
    memory_width: int = 40
    num_reads: int = 4
    num_writes: int = 1
    shift_range: int = 1
    controller: str = "lstm"
    least_used: str = "shared"
    decay: float = 0.99
    key_strength: bool = False
    memory_init: float | str = 1e-6
    backend: str | None = None
    lstm_layers: int = 1


MEMORY_SETTINGS = ("controller", "memory_slots", "memory_width", "num_reads", "memory_init")
"""Settings that every core with a memory understands."""


@dataclass(frozen=True)
class Core:
    """What the registry knows of a core.

    name:       what ``--model`` calls it
    build:      settings -> a module (T, B, F) -> output (T, B, D') or (output, state), with D' as its ``output_size``;
                a core with a memory has a ``cell`` with ``initial_state`` and ``step``, which pictures follow
    has_memory: whether it has a memory of N slots
    options:    the settings that it understands beyond ``hidden_size`` and, with a memory, ``MEMORY_SETTINGS``
    family:     the family of operations whose backend it needs; None without a memory
    even_reads: whether its read weights are a softmax over all slots, so that a picture starts at 1 / N, not at 0
    """

    name: str
    build: Callable[[CoreSettings], nn.Module]
    has_memory: bool = False
    options: tuple[str, ...] = ()
    family: str | None = None
    even_reads: bool = False

    def understands(self, setting: str) -> bool:
        """Whether the setting changes this core."""
        return setting in self.options or (self.has_memory and setting in MEMORY_SETTINGS)


CORES: dict[str, Core] = {}


def register_core(core: Core) -> None:
    """Add a core under its name. Raises ``ValueError`` where the name is taken."""
    if core.name in CORES:
        raise ValueError(f"core: got the name {core.name!r}, which is registered already")
    CORES[core.name] = core


def build_core(name: str, settings: CoreSettings) -> nn.Module:
    """The module called ``name``; torch's generator draws its parameters, on the CPU.

    Raises ``ValueError`` for another name, and ``ValueError`` or ``TypeError`` for settings out of range.
    """
    if name not in CORES:
        *first, last = map(repr, CORES)
        raise ValueError(f"model: got {name!r}, need {', '.join(first)} or {last}")
    return CORES[name].build(settings)


def core_names() -> tuple[str, ...]:
    """Names of all cores that are registered by now."""
    return tuple(CORES)


def with_memory() -> tuple[str, ...]:
    """Names of all cores with a memory that are registered by now."""
    return tuple(name for name, core in CORES.items() if core.has_memory)


def understanding(setting: str) -> Callable[[], tuple[str, ...]]:
    """A function that names the cores which understand ``setting``, of all that are registered when it is called."""
    return lambda: tuple(name for name, core in CORES.items() if core.understands(setting))


class LSTM(nn.LSTM):
    """torch.nn.LSTM with the width of its output under the name that MANN and NTM have for it."""

    @property
    def output_size(self) -> int:
        """Width of a step's output: D."""
        return self.hidden_size


class FeedForward(nn.Sequential):
    """One tanh layer, which sees one step alone."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(nn.Linear(input_size, hidden_size), nn.Tanh())
        self.output_size = hidden_size


def _mann(settings: CoreSettings) -> MANN:
    return MANN(
        settings.input_size,
        settings.hidden_size,
        settings.memory_slots,
        settings.memory_width,
        settings.num_reads,
        controller=settings.controller,
        least_used=settings.least_used,
        decay=settings.decay,
        key_strength=settings.key_strength,
        memory_init=settings.memory_init,
        backend=settings.backend,
    )


def _ntm(settings: CoreSettings) -> NTM:
    return NTM(
        settings.input_size,
        settings.hidden_size,
        settings.memory_slots,
        settings.memory_width,
        settings.num_reads,
        settings.num_writes,
        settings.shift_range,
        controller=settings.controller,
        memory_init=settings.memory_init,
        backend=settings.backend,
    )


def _lstm(settings: CoreSettings) -> LSTM:
    return LSTM(settings.input_size, settings.hidden_size, settings.lstm_layers)


def _feedforward(settings: CoreSettings) -> FeedForward:
    return FeedForward(settings.input_size, settings.hidden_size)


register_core(Core("mann", _mann, True, ("least_used", "decay", "key_strength"), "lrua", even_reads=True))
register_core(Core("ntm", _ntm, True, ("num_writes", "shift_range"), "ntm"))
register_core(Core("lstm", _lstm, options=("lstm_layers",)))
register_core(Core("feedforward", _feedforward))
