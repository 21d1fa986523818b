"""Losses and gradients that are not finite: at which step, and which operation was the first to give such a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mannkern.training import processes
from mannkern.training.batch_norm import own_statistics
from mannkern.training.experiment import Experiment

ADVICE = "docs/learning.md says what to try"
FIRST = "the first operation that gave such a number is"


class NotFinite(ArithmeticError):
    """A training step has a loss or a gradient that is not finite; the parameters are those from before it."""


class FirstNotFinite(TorchDispatchMode):
    """A mode that notes in ``name`` the first operation whose results are not finite although its arguments are."""

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        arguments = tree_leaves((args, kwargs))
        tensors = [one for one in arguments if isinstance(one, Tensor)]
        # "empty_like" has no numbers yet, and a mask of infinities is meant so
        meant = "empty" in func.__name__ or any(isinstance(one, float) and math.isinf(one) for one in arguments)
        judge = self.name is None and bool(tensors) and not meant and all(map(_is_finite, tensors))
        results = func(*args, **kwargs)
        if judge and not all(_is_finite(one) for one in tree_leaves(results) if isinstance(one, Tensor)):
            self.name = func.name()
        return results


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def find_operation(experiment: Experiment, model: nn.Module, batch: Any) -> str:
    """Compute the loss and the gradient of ``batch`` once more, and say where the first number was not finite."""
    model.zero_grad()
    with FirstNotFinite() as watch:
        loss, _ = experiment.loss_and_sums(model, batch)
    if watch.name is not None:
        return f"{FIRST} {watch.name}, in the forward pass"
    with watch:
        loss.backward()
    if watch.name is not None:
        return f"{FIRST} {watch.name}, in the backward pass"
    return "no operation gave such a number out of finite ones, so look at the data"


def where_not_finite(experiment: Experiment, model: nn.Module, batch: Any) -> str:
    """As ``find_operation``; of several ranks, with a part of the batch each, the first one that found an operation."""
    with own_statistics(model):
        operation = find_operation(experiment, model, batch)
    found = processes.gather(operation)
    rank = next((rank for rank, text in enumerate(found) if text.startswith(FIRST)), 0)
    return found[rank] + (f", on rank {rank}" if len(found) > 1 else "")


def first_bad(before: Tensor, loss: Tensor, norm: Tensor, step: int) -> Tensor:
    """The first step () whose loss or gradient was not finite, infinity as long as there is none; it waits for none."""
    return torch.minimum(before, torch.where((loss + norm).isfinite(), math.inf, float(step)))
