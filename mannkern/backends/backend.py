"""The record of a backend: which families of operations it has kernels for, and where they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch


class Sizes(NamedTuple):
    """Sizes of a call that a backend may limit: slots N, width W, heads R (H of the NTM), hidden units D."""

    N: int = 1
    W: int = 1
    R: int = 1
    D: int = 1


class Backend(NamedTuple):
    """A set of kernels for the operations of some memory families.

    name:           what ``backend=`` and MANNKERN_BACKEND call it
    families:       memory families, such as "lrua", whose operations it has kernels for
    devices:        device types, such as "cpu", where ``auto`` takes it
    why_not:        (device type, sizes) -> why it cannot run there, and how to change that; "" where it can
    overload:       the overload of each operation that its kernels are registered for: kernels of "default" save for
                    backward all that the gradient reads, those of "recompute" save little and compute the rest again;
                    None for the reference, which is called without the dispatcher
    takes_half:     whether its kernels convert float16 and bfloat16 on load, so that nothing is widened before
    fuses_episodes: (family, sizes, dtype) -> whether it computes a whole episode of a cell as one operation
    fuses_lengths:  whether that operation takes lengths and resets; without, such episodes run step by step
    fuses_steps:    whether it computes a cell's own step, its controller included, as one operation
    operations:     single operations that it has of other families, by name, each with (sizes, dtype) -> why it cannot
                    run a call of them; "" where it can
    on_request:     of these operations, those that ``auto`` does not take
    episode_overload: the overload of a whole episode, where it is not ``overload``
    """

    name: str
    families: tuple[str, ...]
    devices: tuple[str, ...]
    why_not: Callable[[str, Sizes], str]
    overload: str | None = "default"
    takes_half: bool = False
    fuses_episodes: Callable[[str, Sizes, torch.dtype], bool] = lambda family, sizes, dtype: False
    fuses_lengths: bool = False
    fuses_steps: bool = False
    operations: Mapping[str, Callable[[Sizes, torch.dtype], str]] = MappingProxyType({})
    on_request: tuple[str, ...] = ()
    episode_overload: str | None = None
