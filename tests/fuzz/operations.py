"""Solves a drawn problem of an operation on its kernel and on the reference, and says what differs."""

from __future__ import annotations

import torch

from mannkern.backends import native
from mannkern.memories.cases import Tensors
from mannkern.verification.accuracy import convert, evaluate
from tests.fuzz.comparison import Results, differences, left_out, nudge
from tests.fuzz.problems import DTYPES, Problem
from tests.fuzz.rounding import OtherRounding

EXACT = ("usage", "reset")  # which choose slots


def findings(problem: Problem) -> list[str]:
    """What is wrong, in sentences."""
    case, tensors, gradients, n = problem.called, problem.tensors(), problem.gradients(), problem.n
    dtype = DTYPES[problem.dtype]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    before = native.isa()
    backend, isa = problem.kernel
    native.set_isa(isa)
    try:
        got = evaluate(case, tensors, gradients, backend, n)
    finally:
        native.set_isa(before)
    if not case.operation.differentiable:
        right = evaluate(case, tensors, {}, "reference", n)
        return [f"{k}: not the reference's" for k, x in right.items() if not torch.equal(x, got[k])]
    settled = case.operation.is_settled
    if settled is not None and problem.shape.T > 1 and wide == torch.float32 and not settled(case, tensors, n):
        return left_out("rounding may choose other slots")
    same = evaluate(case, tensors, gradients, "reference", n)
    if problem.is_finite and not problem.may_overflow and dtype != torch.float16:  # whose gradients end at 65504
        wrong = [k for k, x in same.items() if not x.isfinite().all()]
        if wrong:
            return [f"{k}: the reference is not finite" for k in wrong]

    def nudged(seed: int) -> Tensors:
        moved = {
            k: nudge(x, dtype, seed) if x.is_floating_point() and k not in EXACT else x for k, x in tensors.items()
        }
        of_loss = {k: nudge(x, dtype, seed) for k, x in gradients.items()}
        return evaluate(case, convert(moved, torch.float64), of_loss, "reference", n)

    def rounded(seed: int) -> Tensors:
        with OtherRounding(wide, seed):
            return nudged(seed)

    truth = evaluate(case, convert(tensors, torch.float64), convert(gradients, torch.float64), "reference", n)
    found = differences(Results(got, same, truth, nudged, rounded, dtype, problem.is_finite))
    if found and problem.may_overflow and _is_at_the_edge(problem, tensors, gradients):
        return left_out("at the edge of overflow")
    return found


def _is_at_the_edge(problem: Problem, tensors: Tensors, gradients: Tensors) -> bool:
    """Whether the reference overflows when large inputs are a little larger: then another order of sums may too."""
    most = torch.finfo(torch.float64 if problem.dtype == "float64" else torch.float32).max ** 0.4
    larger = {}
    for name, x in tensors.items():
        may_grow = x.is_floating_point() and x.numel() and not name.startswith(("strength", "sharpness"))
        larger[name] = x * 2.0**12 if may_grow and x.abs().max() > most else x
    results = evaluate(problem.called, larger, {k: x * 2.0**12 for k, x in gradients.items()}, "reference", problem.n)
    return any(not x.isfinite().all() for x in results.values())
