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


class FusedEpisode(NamedTuple):
    """How a backend computes a whole episode of a family's cell as one operation.

    overload:      the overload of the operation that its kernels are registered for
    takes:         (sizes, dtype) -> whether it computes an episode at these sizes; others run step by step
    takes_lengths: whether it takes lengths and resets; without, such episodes run step by step
    longest_first: whether it wants the longest episodes of a batch first
    controllers:   the controllers of a cell that it has
    multiplies_bfloat16: () -> whether products with weights in bfloat16 are products of bfloat16 on this machine
    """

    overload: str
    takes: Callable[[Sizes, torch.dtype], bool] = lambda sizes, dtype: True
    takes_lengths: bool = True
    longest_first: bool = False
    controllers: tuple[str, ...] = ("lstm", "feedforward")
    multiplies_bfloat16: Callable[[], bool] = lambda: False


class Backend(NamedTuple):
    """A set of kernels for the operations of some memory families.

    name:           what ``backend=`` and MANNKERN_BACKEND call it
    families:       memory families, such as "lrua", whose operations it has kernels for
    devices:        device types, such as "cpu", where ``auto`` takes it
    why_not:        (device, sizes) -> why it cannot run there, and how to change that; "" where it can
    overload:       the overload of each operation that its kernels are registered for: kernels of "default" save for
                    backward all that the gradient reads, those of "recompute" save little and compute the rest again;
                    None for the reference, which is called without the dispatcher
    takes_half:     whether its kernels convert float16 and bfloat16 on load, so that nothing is widened before
    episodes:       families -> how it computes a whole episode of their cell as one operation, where it does
    fuses_steps:    whether it computes a cell's own step, its controller included, as one operation
    operations:     single operations that it has of other families, by name, each with (sizes, dtype, device) -> why
                    it cannot run a call of them; "" where it can
    on_request:     of these operations, those that ``auto`` does not take
    scan_overload:  the overload of a scan, where it is not ``overload``
    compiles_on_use: whether a GPU kernel is compiled when a call first has its sizes and dtype, not at installation
    """

    name: str
    families: tuple[str, ...]
    devices: tuple[str, ...]
    why_not: Callable[[torch.device, Sizes], str]
    overload: str | None = "default"
    takes_half: bool = False
    episodes: Mapping[str, FusedEpisode] = MappingProxyType({})
    fuses_steps: bool = False
    operations: Mapping[str, Callable[[Sizes, torch.dtype, torch.device], str]] = MappingProxyType({})
    on_request: tuple[str, ...] = ()
    scan_overload: str | None = None
    compiles_on_use: bool = False

    def fused_episode(self, family: str, sizes: Sizes, dtype: torch.dtype) -> FusedEpisode | None:
        """How it computes an episode of a family's cell at these sizes as one operation; None where it does not."""
        episode = self.episodes.get(family)
        return episode if episode is not None and episode.takes(sizes, dtype) else None
