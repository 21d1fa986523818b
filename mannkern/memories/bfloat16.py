"""Episodes with products in bfloat16: weights are rounded to it, sums, states and the memory stay float32."""

from __future__ import annotations

import torch

from mannkern.memories.episode_function import EpisodeOperation


def in_bfloat16(episode: EpisodeOperation) -> EpisodeOperation:
    """The same episode with its products in bfloat16. Second derivatives are those in float32.

    Weights are rounded inside the autograd Function, so that gradients of float32 weights are not rounded.
    """
    return episode._replace(name=f"{episode.name}BFloat16", weights_dtype=torch.bfloat16)
