"""Operations, shapes and arguments of the tests of LRUA, and the one rule of accuracy. Letters as in the library."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern import functional, native


def _isas() -> list[str]:
    before = native.isa()
    found = [name for name in ("portable", "avx2", "avx512") if native.set_isa(name)]
    native.set_isa(before)
    return found


# Every kernel this machine runs, as (backend, instruction set). A new backend joins here.
KERNELS = [("cpp", isa) for isa in _isas() or ["portable"]]


class Shape(NamedTuple):
    B: int
    N: int
    W: int
    R: int
    n: int
    T: int = 3


SHAPES = {
    "standard": Shape(3, 128, 40, 4, 4),
    "one_slot": Shape(2, 1, 5, 3, 1),
    "one_column": Shape(2, 9, 1, 2, 2),
    "one_head": Shape(3, 20, 8, 1, 1),
    "one_of_each": Shape(1, 1, 1, 1, 1, T=1),
    "every_slot_least_used": Shape(2, 12, 6, 4, 12),
    "eight_least_used": Shape(2, 20, 7, 3, 8),  # the last that the compiled kernels find by rounds of minimum
    "nine_least_used": Shape(2, 20, 7, 3, 9),  # the first that they sort
    "odd": Shape(3, 33, 17, 3, 3),
    "past_a_block": Shape(2, 130, 9, 5, 2),
    "many_heads": Shape(2, 24, 8, 11, 11),
    "more_heads_than_slots": Shape(2, 3, 4, 6, 3),
    "wide": Shape(1, 16, 70, 2, 2, T=2),
    "no_episodes": Shape(0, 8, 4, 2, 2),
}
SMALL = Shape(2, 5, 3, 2, 2)

_STATE = {"memory": "BNW", "read_weights": "BRN", "usage": "BN"}
ARGUMENTS = {
    "additive_write": {"memory": "BNW", "write_weights": "BRN", "add": "BRW", "reset": "B"},
    "cosine_read": {"memory": "BNW", "key": "BRW", "strength": "BR"},
    "usage_update": {"usage": "BN", "read_weights": "BRN", "write_weights": "BRN"},
    "lrua_step": {**_STATE, "key": "BRW", "add": "BRW", "gate": "BR", "strength": "BR"},
    "lrua_scan": {**_STATE, "keys": "TBRW", "adds": "TBRW", "gates": "TBR", "strengths": "TBR"},
}
OUTPUTS = {
    "additive_write": {"memory": "BNW"},
    "cosine_read": {"read": "BRW", "read_weights": "BRN"},
    "usage_update": {"usage": "BN"},
    "lrua_step": {"memory": "BNW", "read": "BRW", "read_weights": "BRN", "usage": "BN", "write_weights": "BRN"},
    "lrua_scan": {"reads": "TBRW", **_STATE},
}
OPTIONAL = ("reset", "strength", "strengths")


class Case(NamedTuple):
    """An operation, whether its optional tensors are given, and its other options."""

    operation: str
    optional: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012  never changed


CASES = {
    "write": Case("additive_write"),
    "write_reset": Case("additive_write", True),
    "read": Case("cosine_read"),
    "read_strength": Case("cosine_read", True),
    "usage": Case("usage_update"),
    "usage_decay_0": Case("usage_update", options={"decay": 0}),
    "step": Case("lrua_step"),
    "step_strength": Case("lrua_step", True, {"decay": 0.95}),
    "step_per_head": Case("lrua_step", options={"least_used": "per_head", "decay": 1.0}),
    "scan": Case("lrua_scan"),
    "scan_strength_per_head": Case("lrua_scan", True, {"least_used": "per_head", "decay": 0.5}),
}
MAIN_CASES = ("write_reset", "read_strength", "usage", "step_strength", "step_per_head", "scan")

Tensors = dict[str, Tensor]


def sizes(letters: str, shape: Shape) -> tuple[int, ...]:
    return tuple(getattr(shape, letter) for letter in letters)


def arguments(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensors:
    """Random arguments: usages at least 0.1 apart, so that rounding does not choose slots; strengths from 0 to 4; no
    key near 0, where a gradient is divided by almost nothing."""
    g = torch.Generator().manual_seed(seed)
    found = {}
    for name, letters in ARGUMENTS[case.operation].items():
        if name in OPTIONAL and not case.optional:
            continue
        size = sizes(letters, shape)
        if name == "reset":
            found[name] = torch.randint(shape.N, size, generator=g)
        elif name == "usage":
            order = torch.rand(size, generator=g).argsort(-1)
            found[name] = (0.2 * order + 0.1 * torch.rand(size, generator=g)).to(dtype)
        elif name.endswith("weights"):
            found[name] = torch.randn(size, generator=g).softmax(-1).to(dtype)
        elif name.startswith("strength"):
            found[name] = (4 * torch.rand(size, generator=g)).to(dtype)
        else:
            x = torch.randn(size, generator=g)
            found[name] = (x + 0.5 * x.sign() if name.startswith("key") else x).to(dtype)
    return found


def cotangents(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensors:
    """Random gradients of the outputs."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(sizes(letters, shape), generator=g).to(dtype)
        for name, letters in OUTPUTS[case.operation].items()
    }


def call(case: Case, tensors: Tensors, backend: str | None, n: int | None = None) -> Tensors:
    """Outputs by name."""
    options = dict(case.options)
    if case.operation.startswith("lrua"):
        options["num_least_used"] = n
    outputs = getattr(functional, case.operation)(**tensors, **options, backend=backend)
    return dict(zip(OUTPUTS[case.operation], outputs if isinstance(outputs, tuple) else (outputs,), strict=True))


def evaluate(
    case: Case, tensors: Tensors, gradients: Tensors, backend: str | None, n: int | None = None, only: str | None = None
) -> Tensors:
    """Outputs by name and, as "grad x", gradients of the arguments, or of one.

    The arguments are checked to stay as they are. ``gradients`` of some outputs only: the loss does not use the others.
    """
    before = {name: (x.clone(), x._version) for name, x in tensors.items()}
    differentiable = [k for k, x in tensors.items() if x.is_floating_point()] if only is None else [only]
    leaves = {name: x.detach().requires_grad_(name in differentiable) for name, x in tensors.items()}
    outputs = call(case, leaves, backend, n)
    wanted = {name: leaves[name] for name in differentiable}
    used = [name for name in gradients if outputs[name].requires_grad]
    got = torch.autograd.grad(
        [outputs[name] for name in used],
        list(wanted.values()),
        [gradients[name].to(outputs[name].dtype) for name in used],
        materialize_grads=True,
        allow_unused=True,
    )
    for name, (value, version) in before.items():
        assert same(tensors[name], value), f"{name} was written to"
        assert tensors[name]._version == version
    return {name: x.detach() for name, x in outputs.items()} | {f"grad {k}": x for k, x in zip(wanted, got)}


def convert(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}


def same(x: Tensor, y: Tensor) -> bool:
    """Equal dtype, shape and values, bit for bit but for the sign of 0; NaN equals NaN."""
    return x.dtype == y.dtype and x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())


def assert_same(got: Tensors, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"not bit-equal: {different}"


def _norm(*tensors: Tensor) -> float:
    """L2 norm in float64, scaled so that squares do not overflow."""
    x = torch.cat([x.double().flatten() for x in tensors])
    largest = x.abs().max().item() if x.numel() else 0.0
    return largest * (x / largest).norm().item() if largest else 0.0


def relative_errors(got: Tensors, truth: Tensors) -> dict[str, float]:
    """|got - truth| / |truth| in the L2 norm, of each tensor; 0/0 is 0.

    A gradient that is zero but for the rounding of float64 (of a key of width 1) has no size of its own: its error is
    measured against all gradients together.
    """
    whole = _norm(*(x for name, x in truth.items() if name.startswith("grad")))
    errors = {}
    for name, expected in truth.items():
        size, error = _norm(expected), _norm(got[name].double() - expected.double())
        if name.startswith("grad") and size <= 1e-12 * whole:
            size = whole
        errors[name] = error / size if size else float("inf") if error else 0.0
    return errors


def assert_accurate(got: Tensors, truth: Tensors, float32_reference: Tensors | None) -> None:
    """The rule: at most 4 x the error of the float32 reference + 1e-6. A float64 result is held to 1e-12."""
    assert got.keys() == truth.keys()
    for name, expected in truth.items():
        assert got[name].shape == expected.shape, name
        assert got[name].isfinite().all(), f"{name} is not finite"
    errors = relative_errors(got, truth)
    bounds = dict.fromkeys(truth, 1e-12)
    if float32_reference is not None:
        bounds = {name: 4 * error + 1e-6 for name, error in relative_errors(float32_reference, truth).items()}
    wrong = [f"{name}: {errors[name]:.2e}, allowed {bounds[name]:.2e}" for name in truth if errors[name] > bounds[name]]
    assert not wrong, f"relative errors: {'; '.join(wrong)}"


def check_kernel(case: Case, tensors: Tensors, gradients: Tensors, backend: str, n: int | None = None) -> Tensors:
    """Evaluate ``backend`` and hold it against the references in float64 and float32, or in float64 to 1e-12."""
    got = evaluate(case, tensors, gradients, backend, n)
    truth = evaluate(case, convert(tensors, torch.float64), gradients, "reference", n)
    if next(iter(tensors.values())).dtype == torch.float64:
        assert_accurate(got, truth, None)
    else:
        assert_accurate(got, truth, evaluate(case, tensors, gradients, "reference", n))
    return got


def strided(x: Tensor) -> Tensor:
    """The values of ``x`` as a view with dimensions reversed in memory and gaps between elements, NaN in the gaps."""
    dimensions = range(x.dim() - 1, -1, -1)
    gap = float("nan") if x.is_floating_point() else -1
    buffer = torch.full([2 * x.shape[d] + 1 for d in dimensions], gap, dtype=x.dtype)
    view = buffer[tuple(slice(1, None, 2) for _ in dimensions)].permute(*dimensions)
    view.copy_(x)
    return view
