"""Records that describe an operation to the tests and to ``verify``: arguments, results, cases and random inputs.

A family describes its operations with them in its ``verification.py``; nothing here knows a family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

Tensors = dict[str, Tensor]


class Shape(NamedTuple):
    """Sizes of a case: episodes B, slots N, width W, heads R (H of the NTM), least used slots n, steps T, shifts S."""

    B: int
    N: int
    W: int
    R: int
    n: int
    T: int = 3
    S: int = 3

    @property
    def H(self) -> int:
        """Heads of the NTM."""
        return self.R


SHAPES = {
    "standard": Shape(3, 128, 40, 4, 4),
    "one_slot": Shape(2, 1, 5, 3, 1),
    "one_column": Shape(2, 9, 1, 2, 2),
    "one_head": Shape(3, 20, 8, 1, 1),
    "one_of_each": Shape(1, 1, 1, 1, 1, T=1, S=1),
    "every_slot_least_used": Shape(2, 12, 6, 4, 12),
    "eight_least_used": Shape(2, 20, 7, 3, 8),  # the most that the compiled kernels search by rounds of minimum
    "nine_least_used": Shape(2, 20, 7, 3, 9),  # the fewest that they sort
    "odd": Shape(3, 33, 17, 3, 3, S=5),
    "past_a_block": Shape(2, 130, 9, 5, 2, S=1),
    "many_heads": Shape(2, 24, 8, 11, 11),
    "more_heads_than_slots": Shape(2, 3, 4, 6, 3, S=11),
    "wide": Shape(1, 16, 70, 2, 2, T=2, S=35),
    "no_episodes": Shape(0, 8, 4, 2, 2),
}
SMALL = Shape(2, 5, 3, 2, 2)

Draw = Callable[[tuple[int, ...], Generator, Shape], Tensor]


def normal(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(size, generator=g)


def away_from_zero(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """Normal numbers moved away from 0 by 0.5: a gradient is divided by the norm of a key, which must not vanish."""
    x = torch.randn(size, generator=g)
    return x + 0.5 * x.sign()


def simplex(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """Weights that sum to 1 over the last dimension."""
    return torch.randn(size, generator=g).softmax(-1)


def spaced(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """Usages at least 0.1 apart, so that rounding does not choose slots."""
    order = torch.rand(size, generator=g).argsort(-1)
    return 0.2 * order + 0.1 * torch.rand(size, generator=g)


def uniform(low: float, high: float) -> Draw:
    """Uniform numbers from ``low`` to ``high``."""

    def draw(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=g)

    return draw


def slot(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """Indices of slots, int64."""
    return torch.randint(shape.N, size, generator=g)


class Argument(NamedTuple):
    """A tensor argument: its dimensions as letters, such as "BNW", how it is drawn, and whether it may be None."""

    letters: str
    draw: Draw = normal
    optional: bool = False


class Operation(NamedTuple):
    """A public operation.

    function:     called with its tensors and options by keyword, and ``backend``
    arguments:    its tensor arguments by name, in order
    outputs:      the dimensions of its results by name, in order
    slots_option: the keyword of the number n of least used slots, if it has one
    state:        arguments that stay float32 beside half precision, because later steps choose slots by them
    is_settled:   (case, tensors, n) -> whether the choices of slots on these inputs do not depend on rounding; None if
                  that holds for all inputs
    """

    name: str
    family: str
    function: Callable[..., Any]
    arguments: dict[str, Argument]
    outputs: dict[str, str]
    slots_option: str | None = None
    state: tuple[str, ...] = ()
    is_settled: Callable[[Case, Tensors, int], bool] | None = None
    differentiable: bool = True


class Case(NamedTuple):
    """An operation, whether its optional tensors are passed, and its other options."""

    operation: Operation
    optional: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012  never changed


def sizes(letters: str, shape: Shape) -> tuple[int, ...]:
    """The sizes of a tensor with dimensions ``letters``."""
    return tuple(getattr(shape, letter) for letter in letters)


def arguments(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensors:
    """Random arguments of a case, floats in ``dtype``, drawn as the operation's record says."""
    g = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, argument in case.operation.arguments.items():
        if case.optional or not argument.optional:
            x = argument.draw(sizes(argument.letters, shape), g, shape)
            tensors[name] = x.to(dtype) if x.is_floating_point() else x
    return tensors


def cotangents(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensors:
    """Random gradients of the outputs."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(sizes(letters, shape), generator=g).to(dtype)
        for name, letters in case.operation.outputs.items()
    }


def run_case(case: Case, tensors: Tensors, backend: str | None, n: int | None = None) -> Tensors:
    """The outputs of a case by name; n: the number of least used slots, None for the default."""
    options = dict(case.options)
    if case.operation.slots_option is not None:
        options[case.operation.slots_option] = n
    outputs = case.operation.function(**tensors, **options, backend=backend)
    return dict(zip(case.operation.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))


def cast(case: Case, tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Floats in ``dtype``, except the operation's ``state`` beside half precision."""
    state = case.operation.state if dtype.itemsize < 4 else ()
    return {k: x.to(dtype) if x.is_floating_point() and k not in state else x for k, x in tensors.items()}
