"""Problems and contestants small enough to know their results."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.problems import Operation
from mannkern.benchmark.timing import Run


def doubling(B: int = 4) -> Operation:
    """y = 2 x of numbers 1 to B, the gradient of a loss that sums y: 2 everywhere."""
    x = torch.arange(1.0, B + 1)
    return Operation("doubling", {"B": B}, {"x": x}, ("y",), {"y": torch.ones(B)}, ("x",), moved=8.0)


def times(factor: float, name: str = "") -> Contestant:
    """A contestant that multiplies by ``factor``."""

    def build(problem: Operation) -> Run:
        return problem.run(lambda x: factor * x)

    return Contestant(name or f"times {factor}", build)


def fails(problem: Operation) -> Run:
    """Stands for a compiler that is not there."""

    def function(x: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nand more lines")

    return problem.run(function)
