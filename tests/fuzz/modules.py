"""Problems of modules: a cell or sequence with drawn sizes, options, values, state, lengths and resets."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from mannkern import MANN, NTM
from mannkern.backends import native
from mannkern.memories.cases import Tensors
from tests.fuzz.comparison import Results, differences, left_out, nudge
from tests.fuzz.problems import DTYPES, LAYOUTS, few, laid_out
from tests.fuzz.rounding import OtherRounding
from tests.fuzz.values import HUGE, NOT_FINITE, kinds_of
from tests.helpers import Kernel
from tests.memories.ends import apart, evaluate
from tests.memories.sequences import OPTIONS, apply, episode

GAP = 1e-5  # between usages that are not equal, so that rounding chooses no slot
STATES = ("none", "random", "equal slots", "large memory", "empty memory")


class ModuleProblem(NamedTuple):
    """A call of a module; ``cells``: its cell is called at each step, in place of the whole."""

    module: str
    options: str
    cells: bool
    sizes: tuple[int, int, int, int, int]  # F, D, N, W, R
    T: int
    B: int
    dtype: str
    seed: int
    gain: float  # of the parameters
    values: str
    layout: str
    state: str
    lengths: tuple[int, ...] | None
    reset: bool
    kernel: Kernel


@st.composite
def module_problems(draw: Any, module: str, kernels: list[Kernel]) -> ModuleProblem:
    T, B = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    lengths = st.none() | st.tuples(*[st.integers(0, T)] * B)
    return ModuleProblem(
        module,
        draw(st.sampled_from(["default", *OPTIONS[{"MANN": MANN, "NTM": NTM}[module]]])),
        draw(st.booleans()),
        (draw(few(4)), draw(few(9)), draw(st.sampled_from([8, 9, 33])), draw(few(9)), draw(few(5))),
        T,
        B,
        draw(st.sampled_from(sorted(DTYPES))),
        draw(st.integers(0, 10**6)),
        draw(st.sampled_from([1.0, 0.0, 10.0])),
        draw(st.sampled_from(sorted(kinds_of("input")))),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(STATES)),
        draw(lengths),
        draw(st.booleans()),
        draw(st.sampled_from(kernels)),
    )


def module_findings(problem: ModuleProblem) -> list[str]:
    """What is wrong, in sentences."""
    p, g = problem, torch.Generator().manual_seed(problem.seed)
    torch.manual_seed(p.seed)
    family: Any = {"MANN": MANN, "NTM": NTM}[p.module]
    options = {} if p.options == "default" else OPTIONS[family][p.options]
    model = family(*p.sizes, **options, memory_init="learned")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(p.gain)
    dtype = DTYPES[p.dtype]
    model = model.to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    loss_dtype = dtype if dtype.itemsize == 2 else torch.float32  # half precision would round it in one, not in another
    input, state = _inputs(model, p, g)
    ends: dict[str, Any] = {}
    if p.lengths is not None:
        ends["lengths"] = torch.tensor(p.lengths, dtype=torch.int64)
    if p.reset:
        ends["reset"] = torch.rand(p.T, p.B, generator=g) < 0.3

    def of(kind: torch.dtype, model: Any, input: Tensor, state: Any) -> tuple[Tensors, float]:
        """Each episode by itself, step by step, on the reference; and the gap between usages."""
        model = copy.deepcopy(model).to(kind)
        model.backend = "reference"
        gaps = [float("inf")]
        model.cell.register_forward_pre_hook(lambda cell, args: gaps.append(_gap(cell, args[1])))
        state = None if state is None else apply(state, lambda x: x.to(kind if kind == torch.float64 else x.dtype))
        run = lambda x, s: apart(model, x, s, **ends)  # noqa: E731
        return evaluate(run, model, input.to(kind), state, loss_dtype), min(gaps)

    if p.B == 0:
        with torch.no_grad():
            output, last = model(input, state, **ends)
        return [] if output.shape == (p.T, 0, model.output_size) and last.memory.shape[0] == 0 else ["B = 0: shape"]
    truth, gap = of(torch.float64, model, input, state)
    if wide == torch.float32 and gap < GAP:
        return left_out("rounding may choose other slots")
    same, _ = of(dtype, model, input, state)
    mine = copy.deepcopy(model)
    mine.backend, isa = p.kernel
    before = native.isa()
    native.set_isa(isa)
    try:
        run = (lambda x, s: apart(mine, x, s, **ends)) if p.cells else (lambda x, s: mine(x, s, **ends))
        got = evaluate(run, mine, input, state, loss_dtype)
    finally:
        native.set_isa(before)

    def nudged(seed: int) -> Tensors:
        other = copy.deepcopy(model).double()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.copy_(nudge(parameter, dtype, seed))
        return of(torch.float64, other, nudge(input, dtype, seed), _nudged(state, dtype, seed))[0]

    def rounded(seed: int) -> Tensors:
        if dtype.itemsize > 2:
            with OtherRounding(dtype, seed):
                return nudged(seed)
        with OtherRounding(dtype, seed):  # the controller computes in half precision
            return of(dtype, model, input, state)[0]

    found = differences(Results(got, same, truth, nudged, rounded, dtype, p.values != NOT_FINITE))
    if found and p.values in HUGE and p.values != "large":
        return left_out("at the edge of overflow")
    return found


def _nudged(state: Any, dtype: torch.dtype, seed: int) -> Any:
    """The state, its usage as it was: that chooses slots."""
    if state is None:
        return None
    moved = apply(state, lambda x: nudge(x, dtype, seed))
    return moved._replace(usage=state.usage.double()) if hasattr(state, "usage") else moved


def _gap(cell: Any, state: Any) -> float:
    """The smallest distance between two of the usages that choose slots, unless they are equal."""
    if not hasattr(state, "usage"):
        return float("inf")
    differences = state.usage.detach().sort(-1).values[:, : cell.num_least_used + 1].diff(dim=-1)
    return min([float(x) for x in differences.flatten() if x > 0], default=float("inf"))


def _inputs(model: Any, p: ModuleProblem, g: torch.Generator) -> tuple[Tensor, Any]:
    dtype = DTYPES[p.dtype]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    drawn = torch.randn(p.T, p.B, p.sizes[0], generator=g, dtype=wide)
    drawn = kinds_of("input")[p.values](drawn, g)
    narrow = drawn.to(dtype)
    input = laid_out(torch.where(drawn.isfinite(), narrow.nan_to_num(), narrow), p.layout if p.T else "plain")
    if p.state == "none":
        return input, None
    first = model.initial_state(p.B)
    _, random = episode(model, 1, p.B)
    controller = tuple(x.to(y.dtype) for x, y in zip(random.controller, first.controller, strict=True))
    parts = {name: x.to(getattr(first, name).dtype) for name, x in random._asdict().items() if name != "controller"}
    if p.state == "equal slots":
        parts["memory"] = parts["memory"][:, :1].expand_as(parts["memory"])
    elif p.state == "large memory":
        parts["memory"] = parts["memory"] * 1e4
    elif p.state == "empty memory":
        parts["memory"] = torch.zeros_like(parts["memory"])
    return input, type(first)(controller, **parts)
