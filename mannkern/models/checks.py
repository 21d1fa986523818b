"""The checks of an episode that every few-shot model makes before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.checks import values_known


def check_episode(support: Tensor, labels: Tensor, queries: Tensor, num_classes: int, channels: int = 1) -> None:
    """Raises TypeError or ValueError, naming the argument, for a malformed batch of episodes.

    support (B, N, P, P) and queries (B, Q, P, P) of one shape of drawing, labels (B, N) int64 in [0, C); N at least 1.
    With channels above 1 a drawing is an image (channels, height, width).
    """
    for name, images in (("support", support), ("queries", queries)):
        check_is_tensor(name, images)
        if images.dim() != (4 if channels == 1 else 5):
            need = "P, P" if channels == 1 else f"{channels}, height, width"
            raise ValueError(f"{name}: got shape {tuple(images.shape)}, need (B, N, {need})")
        if not images.is_floating_point():
            raise TypeError(f"{name}: got {images.dtype}, need a floating-point tensor, 1 = ink")
    if support.shape[1] == 0:
        raise ValueError("support: got no drawings, need at least one")
    if queries.shape[0] != support.shape[0] or queries.shape[2:] != support.shape[2:]:
        shape = f"({support.shape[0]}, Q, {', '.join(map(str, support.shape[2:]))})"
        raise ValueError(f"queries: got shape {tuple(queries.shape)}, need {shape} as in support")
    if queries.dtype != support.dtype:
        raise TypeError(f"queries: got {queries.dtype}, need {support.dtype} as in support")
    check_is_tensor("labels", labels)
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: got {labels.dtype}, need torch.int64")
    if labels.shape != support.shape[:2]:
        raise ValueError(f"labels: got shape {tuple(labels.shape)}, need {tuple(support.shape[:2])} as in support")
    check_labels(labels, num_classes)


def check_is_tensor(name: str, x: Any) -> None:
    """Raises TypeError for anything else."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, need a tensor")


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raises ValueError for a label out of range.

    It reads none where that would wait for a GPU, or where there is none to read, as in torch.compile and torch.func.
    """
    if values_known(labels) and labels.numel():
        least, most = labels.aminmax()
        if least < 0 or most >= num_classes:
            raise ValueError(f"labels: got {int(least)} to {int(most)}, need 0 to {num_classes - 1}")
