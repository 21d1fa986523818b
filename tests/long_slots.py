"""Slots up to the longest that the reference manages, and the gradient of the memory through their norms."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.cases import Case, Shape, Tensors, arguments, sizes
from mannkern.verification.accuracy import Error, convert, errors, evaluate

OF_ANY_LENGTH = "of any length"
LENGTHS = {"1e19": 1e19, "1e25": 1e25, "1e37": 1e37, OF_ANY_LENGTH: None}
WEIGHTS = ("read_weights", "weights")  # a result that a slot changes by its direction alone


def scale(shape: Shape, length: float | None) -> Tensor:
    """Lengths (N, 1) of the slots: all of them the same, or from 1e-3 to 1e37."""
    if length is not None:
        return torch.full((shape.N, 1), length)
    return torch.logspace(-3, 37, shape.N).unsqueeze(-1)


def memory_gradient(case: Case, shape: Shape, length: float | None, backend: str, n: int | None = None) -> Error:
    """The error of the memory's gradient from a loss of the weights alone, times the slots' lengths.

    It is by itself, because the accuracy rule measures a gradient that is tiny beside the others by their size.
    """
    scaled = scale(shape, length)
    tensors = arguments(case, shape)
    tensors["memory"] = torch.nn.functional.normalize(tensors["memory"], dim=-1) * scaled
    for name in tensors.keys() & {"add", "adds"}:
        tensors[name] *= scaled.min()
    name = next(name for name in WEIGHTS if name in case.operation.outputs)
    g = torch.Generator().manual_seed(1)
    gradients = {name: torch.randn(sizes(case.operation.outputs[name], shape), generator=g)}

    def gradient(tensors: Tensors, backend: str) -> Tensors:
        return {"grad": evaluate(case, tensors, gradients, backend, n, only="memory")["grad memory"].double() * scaled}

    truth = gradient(convert(tensors, torch.float64), "reference")
    return errors(gradient(tensors, backend), truth, gradient(tensors, "reference"))["grad"]
