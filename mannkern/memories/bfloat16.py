"""Episodes with products in bfloat16: weights are rounded to it, sums, states and the memory stay float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mannkern.memories.episode_function import EpisodeOperation

_INPUT_WEIGHT, _RECURRENT_WEIGHT, _INTERFACE_WEIGHT = 1, 3, 4  # their places among the arguments of an episode


class _Rounding:
    """An operation of an episode whose weights, at ``places`` of its arguments, are rounded to bfloat16 first.

    They are rounded inside the autograd Function, so that gradients of float32 weights are not rounded.
    """

    def __init__(self, operation: Callable[..., Any], places: Sequence[int]) -> None:
        self.operation, self.places = operation, places
        self._schema = operation._schema  # type: ignore[attr-defined]

    def __call__(self, *args: Any) -> Any:
        return self.operation(*(x.to(torch.bfloat16) if i in self.places else x for i, x in enumerate(args)))


def in_bfloat16(episode: EpisodeOperation) -> EpisodeOperation:
    """The same episode with its products in bfloat16. Second derivatives are those in float32."""
    grads = 2 + episode.states  # backward takes them first, then the input, and then the three weights
    forward = _Rounding(episode.forward[episode.overload], (_INPUT_WEIGHT, _RECURRENT_WEIGHT, _INTERFACE_WEIGHT))
    backward = _Rounding(episode.backward[episode.overload], (grads + 1, grads + 2, grads + 3))
    operations: tuple[Mapping[str, Any], ...] = ({episode.overload: forward}, {episode.overload: backward})
    return episode._replace(name=f"{episode.name}BFloat16", forward=operations[0], backward=operations[1])
