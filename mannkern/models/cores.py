"""Cores by name: ``build_core`` builds the recurrent module of a model that ``--model`` names.

The memory families bring their cores (``mann``, ``ntm``); the baselines without a memory are here.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mannkern.memories.core import CORES, MEMORY_SETTINGS, Core, CoreSettings, register_core

__all__ = [
    "CORES",
    "MEMORY_SETTINGS",
    "Core",
    "CoreSettings",
    "build_core",
    "core_names",
    "register_core",
    "understanding",
    "with_memory",
]


def build_core(name: str, settings: CoreSettings) -> nn.Module:
    """The module called ``name``; torch's generator draws its parameters, on the CPU.

    Raises ``ValueError`` for another name, and ``ValueError`` or ``TypeError`` for settings out of range.
    """
    if not isinstance(settings, CoreSettings):
        raise TypeError(
            f"settings: got {type(settings).__name__}, need CoreSettings, such as CoreSettings(input_size=405)"
        )
    if name not in CORES:
        *first, last = map(repr, CORES)
        raise ValueError(f"model: got {name!r}, need {', '.join(first)} or {last}")
    return CORES[name].build(settings)


def core_names() -> tuple[str, ...]:
    """Names of all registered cores."""
    return tuple(CORES)


def with_memory() -> tuple[str, ...]:
    """Names of all registered cores with a memory."""
    return tuple(name for name, core in CORES.items() if core.has_memory)


def understanding(setting: str) -> Callable[[], tuple[str, ...]]:
    """A function that returns the names of the cores that understand ``setting`` at the time of its call."""
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


def _lstm(settings: CoreSettings) -> LSTM:
    return LSTM(settings.input_size, settings.hidden_size, settings.lstm_layers)


def _feedforward(settings: CoreSettings) -> FeedForward:
    return FeedForward(settings.input_size, settings.hidden_size)


register_core(Core("lstm", _lstm, options=("lstm_layers",)))
register_core(Core("feedforward", _feedforward))
