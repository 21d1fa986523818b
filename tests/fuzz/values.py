"""The values of a drawn problem, by name: ordinary ones, zeros, ties, numbers of every size, and what is not finite.

A kind changes the numbers that the operation's record drew, and leaves them in the argument's range.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from mannkern.memories.cases import Case

Change = Callable[[Tensor, Generator], Tensor]
NOT_FINITE = "not finite"
HUGE = ("huge", "any size", "large")  # whose products and sums may overflow
STRONG = ("stronger", "most")  # of strengths


def _times(exponent: float) -> Change:
    """x times 10^exponent in float32, and a power eight times as large or small in float64."""
    return lambda x, g: x * 10.0 ** (exponent * (8 if x.dtype == torch.float64 else 1))


def _any_size(x: Tensor, g: Generator) -> Tensor:
    """Each number of a size of its own, from subnormal ones to nearly the largest."""
    exponents = torch.rand(x.shape, generator=g, dtype=torch.float64) * 81 - 44
    if x.dtype == torch.float64:
        exponents = exponents * 8 + 30
    return (x.sign().double() * 10**exponents).to(x.dtype)


def _some_rows(x: Tensor, g: Generator) -> Tensor:
    return x * (torch.rand((*x.shape[:-1], 1), generator=g) < 0.5)


def _some(x: Tensor, g: Generator) -> Tensor:
    return x * (torch.rand(x.shape, generator=g) < 0.5)


def _one_hot(x: Tensor, g: Generator) -> Tensor:
    at = torch.randint(max(x.shape[-1], 1), (*x.shape[:-1], 1), generator=g)
    return torch.zeros_like(x).scatter(-1, at, 1.0) if x.numel() else x


def _not_finite(x: Tensor, g: Generator) -> Tensor:
    """One number is infinite or NaN."""
    if not x.numel():
        return x
    x = x.clone()
    at, which = (int(torch.randint(most, (), generator=g)) for most in (x.numel(), 3))
    x.view(-1)[at] = (torch.inf, -torch.inf, torch.nan)[which]
    return x


def _nan(x: Tensor, g: Generator) -> Tensor:
    """One number is NaN; an infinite one would be refused."""
    return torch.where(_not_finite(x, g).isfinite(), x, torch.nan)


def _all(value: float) -> Change:
    return lambda x, g: torch.full_like(x, value)


def _at_most(x: Tensor, g: Generator) -> Tensor:
    return torch.full_like(x, torch.finfo(x.dtype).max)


def _equal(x: Tensor, g: Generator) -> Tensor:
    """All the same in the last dimension but one of a matrix, as fresh slots are; of numbers in the last one."""
    dimension = -2 if x.dim() > 2 else -1
    return x.narrow(dimension, 0, 1).expand(x.shape).contiguous() if x.numel() else x


ORDINARY: Change = lambda x, g: x  # noqa: E731
_COMMON: dict[str, Change] = {"ordinary": ORDINARY, "zeros": _all(0), "ties": lambda x, g: x.round(), "some": _some}
_VECTORS = _COMMON | {
    "some rows": _some_rows,
    "equal": _equal,
    "subnormal": _times(-39),
    "tiny": _times(-30),
    "about eps": lambda x, g: x * 4e-9,
    "large": _times(15),
    "huge": _times(37),
    "any size": _any_size,
    NOT_FINITE: _not_finite,
}
_WEIGHTS = {
    "ordinary": ORDINARY,
    "zeros": _all(0),
    "one hot": _one_hot,
    "some": _some,
    "subnormal": _times(-39),
    "tiny": _times(-30),
    NOT_FINITE: lambda x, g: _not_finite(x, g).abs(),
}
_UNIT = {"ordinary": ORDINARY, "zeros": _all(0), "ones": _all(1), "some": _some}
_LOGITS = {"ordinary": ORDINARY, "zeros": _all(0), "open": _all(1e4), "closed": _all(-1e4), NOT_FINITE: _not_finite}
_STRENGTH = {
    "ordinary": ORDINARY,
    "zeros": _all(0),
    "strong": _times(2),
    "stronger": _times(10),
    "most": _at_most,
    NOT_FINITE: _nan,
}
_SHARPNESS = {
    "ordinary": ORDINARY,
    "ones": _all(1),
    "sharp": lambda x, g: 1000 * x,
    "sharper": _times(10),
    "most": _at_most,
    NOT_FINITE: _nan,
}
_USAGE = _COMMON | {"equal": _equal, "large": _times(15), NOT_FINITE: _not_finite}
_OF: dict[str, dict[str, Change]] = {
    "memory": _VECTORS,
    "key": _VECTORS,
    "add": _VECTORS,
    "gate": _LOGITS,
    "strength": _STRENGTH,
    "usage": _USAGE,
    "read_weight": _WEIGHTS,
    "write_weight": _WEIGHTS,
    "weight": _WEIGHTS,
    "previou": _WEIGHTS,
    "content": _WEIGHTS,
    "erase": _UNIT,
    "shift": {"ordinary": ORDINARY, "one hot": _one_hot},
    "sharpness": _SHARPNESS,
    "input": _VECTORS,
}


def kinds_of(name: str, case: Case | None = None) -> dict[str, Change]:
    """The kinds of an argument; empty if it has no choice, as slot numbers have."""
    if name == "gate" and case is not None and case.operation.family == "ntm":
        return _UNIT
    return _OF.get(name if name in _OF else name.removesuffix("s"), {})
