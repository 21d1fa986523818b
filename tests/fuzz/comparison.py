"""The one comparison of the fuzzing: results beside the reference in float64 and in their own dtype.

A result is right by the accuracy rule. Where the rule says no, the problem may be ill-conditioned: then it is right if
its error is at most ``FACTOR`` times what a change of the inputs in their last bit does to the truth. The factor is
there because a result of many steps is rounded more often than its inputs. The rule's other side, the error of the
reference, is that of one order of roundings, which may be small by luck, and in float64 nobody knows it. So it is
measured again with every intermediate result rounded another way (``OtherRounding``), under the rule's own factor, 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.memories.cases import Tensors
from mannkern.verification.accuracy import relative_errors

FACTOR = 32
SEEDS = range(1, 9)  # fewer are often lucky all at once, where one rounding matters
counts: Counter[str] = Counter()  # of the problems drawn, and of those left out by reason


class Results(NamedTuple):
    """Results of the kernel and of the reference.

    got:     of the kernel
    same:    of the reference in the same dtype
    truth:   of the reference in float64
    nudged:  a seed -> the truth of inputs that are changed in the last bit
    rounded: a seed -> the same with intermediate results rounded another way; in half precision, the reference so
    dtype:   of the arguments
    finite:  whether all arguments are
    """

    got: Tensors
    same: Tensors
    truth: Tensors
    nudged: Callable[[int], Tensors]
    rounded: Callable[[int], Tensors]
    dtype: torch.dtype
    finite: bool


def left_out(reason: str) -> list[str]:
    """Nothing is wrong, and the problem is counted as not compared."""
    counts[reason] += 1
    return []


def differences(results: Results) -> list[str]:
    """A sentence for each result that is wrong: its shape, what is not finite, or its error."""
    got, same = results.got, results.same
    wrong = [f"{k}: got shape {tuple(got[k].shape)}" for k, x in same.items() if got[k].shape != x.shape]
    return wrong or _elsewhere(results) or _errors(results)


def _elsewhere(results: Results) -> list[str]:
    """What is NaN or infinite where the reference is not, or the other way round."""
    sentences = []
    for k, y in results.same.items():
        x = results.got[k]
        if not k.startswith("grad"):
            outside = (x.isnan() != y.isnan()) | (x != y) & (x.isinf() | y.isinf()) & ~y.isnan()
        elif results.finite and results.dtype.itemsize > 2:
            outside = x.isfinite() != y.isfinite()
        else:  # autograd leaves out a gradient of 0, which a kernel multiplies with NaN; half precision overflows early
            continue
        if outside.any():
            sentences.append(f"{k}: got {x[outside][0].item()}, the reference {y[outside][0].item()}")
    return sentences


def _errors(results: Results) -> list[str]:
    """Errors that neither the rule nor the condition allows, of numbers that are finite."""
    got, same, truth, nudged, rounded, dtype, inputs_are_finite = results
    names = [k for k in truth if inputs_are_finite or not k.startswith("grad")]
    finite = {k: got[k].isfinite() & same[k].isfinite() & truth[k].isfinite() for k in names}
    got, same, truth = ({k: torch.where(finite[k], x[k], 0) for k in names} for x in (got, same, truth))
    wide = dtype == torch.float64
    least, tiny = (1e-12, 2.0**-960) if wide else (1e-6, 2.0**-100)  # numbers near the smallest have few digits
    measured, of_reference = relative_errors(got, truth), relative_errors(same, truth)
    allowed = {k: least + (0 if wide else 4 * of_reference[k]) for k in names}
    for k, x in truth.items():
        allowed[k] += tiny * x.numel() ** 0.5 / max(_norm(x), 1e-300)
        allowed[k] += torch.finfo(got[k].dtype).eps / 2 if got[k].dtype.itemsize < 4 else 0  # it is rounded last
    wrong = [k for k in names if not measured[k] <= allowed[k]]
    if wrong:

        def spread(moved: Tensors) -> dict[str, float]:
            return relative_errors({k: torch.where(finite[k], moved[k], 0) for k in names}, truth)

        for seed in SEEDS:
            of_inputs, of_all = spread(nudged(seed)), spread(rounded(seed))
            allowed = {k: max(allowed[k], FACTOR * of_inputs[k], least + 4 * of_all[k]) for k in names}
    return [f"{k}: error {measured[k]:.1e}, allowed {allowed[k]:.1e}" for k in wrong if not measured[k] <= allowed[k]]


def nudge(x: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """x with each number changed up or down by half a unit in the last place of the compute dtype, in float64."""
    g = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, x.shape, generator=g).double() * 2 - 1
    bits = torch.float64 if dtype == torch.float64 else torch.float32
    moved = x.double() + x.double() * (signs * torch.finfo(bits).eps / 2)  # 1 + eps / 2 would be 1 in float64
    return torch.where(x.isfinite() & moved.isinf(), x.double(), moved)


def _norm(x: Tensor) -> float:
    largest = float(x.double().abs().max()) if x.numel() else 0.0
    return largest * float((x.double() / largest).norm()) if largest else 0.0
