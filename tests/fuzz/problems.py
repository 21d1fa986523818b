"""Problems that hypothesis draws: an operation with sizes, values, strides, a dtype, options and a loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from mannkern import functional
from mannkern.memories.cases import (
    Argument,
    Case,
    Operation,
    Shape,
    Tensors,
    arguments,
    cast,
    cotangents,
    simplex,
    uniform,
)
from tests.fuzz.values import HUGE, NOT_FINITE, STRONG, kinds_of
from tests.helpers import EVERY_CASE, Kernel, strided

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def _without_backend(name: str, arguments: dict[str, Argument], outputs: dict[str, str]) -> Case:
    """A public operation that is plain PyTorch on every backend."""
    plain = getattr(functional, name)
    return Case(Operation(name, "", lambda backend, **tensors: plain(**tensors), arguments, outputs))


PLAIN = {
    "weighted_read": _without_backend(
        "weighted_read", {"memory": Argument("BNW"), "weights": Argument("BRN", simplex)}, {"read": "BRW"}
    ),
    "interpolate": _without_backend(
        "interpolate",
        {
            "content": Argument("BRN", simplex),
            "previous": Argument("BRN", simplex),
            "gate": Argument("BR", uniform(0, 1)),
        },
        {"weights": "BRN"},
    ),
}
CASES = EVERY_CASE | PLAIN


class Problem(NamedTuple):
    """A call: the case and its sizes, the kinds of values and layouts by argument, and the outputs of the loss."""

    case: str
    shape: Shape
    dtype: str
    seed: int
    values: dict[str, str]
    layouts: dict[str, str]
    losses: tuple[str, ...]
    decay: float | None
    kernel: Kernel

    @property
    def called(self) -> Case:
        case = CASES[self.case]
        return case if self.decay is None else case._replace(options=case.options | {"decay": self.decay})

    @property
    def n(self) -> int:
        """The number of least used slots."""
        return self.shape.n

    @property
    def is_finite(self) -> bool:
        return NOT_FINITE not in self.values.values()

    @property
    def may_overflow(self) -> bool:
        """Whether products and sums may; also an error of rounding, times a strength of up to 2^64 at each step."""
        kinds = {*self.values.values()}
        has_steps = any("T" in argument.letters for argument in self.called.operation.arguments.values())
        return bool(kinds & {*HUGE} or (has_steps and self.shape.T > 1 and kinds & {*STRONG}))

    def tensors(self) -> Tensors:
        """The arguments, of these values, in these layouts."""
        case, dtype = self.called, DTYPES[self.dtype]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        g = torch.Generator().manual_seed(self.seed)
        drawn = arguments(case, self.shape, wide, self.seed)
        for name, kind in self.values.items():
            drawn[name] = kinds_of(name, case)[kind](drawn[name], g)
        narrowed = cast(case, drawn, dtype)
        for name, x in narrowed.items():  # float16 ends at 65504: what was finite stays so
            if x.is_floating_point():
                narrowed[name] = torch.where(drawn[name].isfinite(), x.nan_to_num(), x)
        return {name: laid_out(x, self.layouts.get(name, "plain")) for name, x in narrowed.items()}

    def gradients(self) -> Tensors:
        """Random gradients of the outputs of the loss."""
        wide = torch.float64 if self.dtype == "float64" else torch.float32
        drawn = cotangents(self.called, self.shape, wide, self.seed + 1)
        return {name: drawn[name] for name in self.losses}


LAYOUTS = ("plain", "strided", "transposed", "sliced", "expanded")


def laid_out(x: Tensor, layout: str) -> Tensor:
    """x as a view: dimensions reversed with gaps, the last two exchanged, a slice of a wider tensor, one for all B."""
    if layout == "strided":
        return strided(x)
    if layout == "transposed" and x.dim() > 1:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":
        return torch.cat([torch.full_like(x, 7), x], -1)[..., x.shape[-1] :]
    if layout == "expanded" and x.shape[0] > 1:
        return x[:1].expand(x.shape)
    return x


def few(most: int) -> st.SearchStrategy[int]:
    """A size, with many ones."""
    return st.one_of(st.just(1), st.integers(1, most))


@st.composite
def shapes(draw: Any, most_slots: int, most_columns: int, most_heads: int) -> Shape:
    N = draw(few(most_slots))
    return Shape(
        B=draw(st.integers(0, 3)),
        N=N,
        W=draw(few(most_columns)),
        R=draw(few(most_heads)),
        n=draw(st.integers(1, N)),
        T=draw(st.integers(0, 4)),
        S=2 * draw(st.integers(0, 4)) + 1,
    )


@st.composite
def problems(draw: Any, names: list[str], kernels: list[Kernel], sizes: tuple[int, int, int] = (40, 40, 6)) -> Problem:
    name = draw(st.sampled_from(names))
    case = CASES[name]
    of_case = {argument: sorted(kinds_of(argument, case)) for argument in arguments(case, Shape(1, 1, 1, 1, 1))}
    # most arguments are ordinary, so that one kind is seen by itself
    changed = draw(st.lists(st.sampled_from([k for k, kinds in of_case.items() if kinds]), max_size=3, unique=True))
    relaid = draw(st.lists(st.sampled_from(sorted(of_case)), max_size=2, unique=True))
    outputs = list(case.operation.outputs) if case.operation.differentiable else []
    return Problem(
        name,
        draw(shapes(*sizes)),
        draw(st.sampled_from(sorted(DTYPES))),
        draw(st.integers(0, 10**6)),
        {argument: draw(st.sampled_from(of_case[argument])) for argument in changed},
        {argument: draw(st.sampled_from(LAYOUTS[1:])) for argument in relaid},
        tuple(draw(st.lists(st.sampled_from(outputs), unique=True))) if outputs else (),
        draw(st.sampled_from([None, 0.0, 0.5, 1.0]))
        if "decay" in case.options or ("usage" in of_case and outputs)
        else None,
        draw(st.sampled_from(kernels)),
    )
