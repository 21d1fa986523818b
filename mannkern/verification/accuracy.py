"""The accuracy rule: a kernel's outputs and gradients are compared with the reference in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.memories.cases import Case, Tensors, run_case


def evaluate(
    case: Case, tensors: Tensors, gradients: Tensors, backend: str | None, n: int | None = None, only: str | None = None
) -> Tensors:
    """The outputs of a case by name and, as "grad x", the gradients of its arguments, or of the argument ``only``.

    gradients: those of the outputs, or of some of them; the loss then does not use the others. Raises AssertionError
    where an argument was written to.
    """
    before = {name: (x.clone(), x._version) for name, x in tensors.items()}
    differentiable = [k for k, x in tensors.items() if x.is_floating_point()] if only is None else [only]
    leaves = {name: x.detach().requires_grad_(name in differentiable) for name, x in tensors.items()}
    outputs = run_case(case, leaves, backend, n)
    inputs = {name: leaves[name] for name in differentiable}
    used = [name for name in gradients if outputs[name].requires_grad]
    grads = (
        ()
        if not used
        else torch.autograd.grad(
            [outputs[name] for name in used],
            list(inputs.values()),
            [gradients[name].to(outputs[name].dtype) for name in used],
            materialize_grads=True,
            allow_unused=True,
        )
    )
    for name, (value, version) in before.items():
        if tensors[name]._version != version or not same(tensors[name], value):
            raise AssertionError(f"{name} was written to")
    return {name: x.detach() for name, x in outputs.items()} | {f"grad {k}": x for k, x in zip(inputs, grads)}


def convert(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The tensors with floats in another dtype."""
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}


def same(x: Tensor, y: Tensor) -> bool:
    """Equal dtype, shape and values, bit for bit but for the sign of 0; NaN equals NaN."""
    return x.dtype == y.dtype and x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())


def _norm(*tensors: Tensor) -> float:
    """L2 norm in float64, scaled so that squares do not overflow."""
    x = torch.cat([x.double().flatten() for x in tensors] or [torch.empty(0)])
    largest = x.abs().max().item() if x.numel() else 0.0
    return largest * (x / largest).norm().item() if largest else 0.0


def relative_errors(results: Tensors, truth: Tensors) -> dict[str, float]:
    """|results - truth| / |truth| in the L2 norm, of each tensor; 0/0 is 0.

    A gradient that is zero but for the rounding of float64 (of a key of width 1) has no size of its own: its error is
    measured against all gradients together.
    """
    whole = _norm(*(x for name, x in truth.items() if name.startswith("grad")))
    errors = {}
    for name, expected in truth.items():
        size, error = _norm(expected), _norm(results[name].double() - expected.double())
        if name.startswith("grad") and size <= 1e-12 * whole:
            size = whole
        errors[name] = error / size if size else float("inf") if error else 0.0
    return errors


class Error(NamedTuple):
    """Relative error of one output or gradient; infinite where its shape is wrong or it is not finite."""

    measured: float
    allowed: float


def errors(results: Tensors, truth: Tensors, float32_reference: Tensors | None) -> dict[str, Error]:
    """Each error beside what is allowed: 4 x that of the float32 reference + 1e-6, or 1e-12 for a float64 result."""
    allowed = dict.fromkeys(truth, 1e-12)
    if float32_reference is not None:
        allowed = {name: 4 * error + 1e-6 for name, error in relative_errors(float32_reference, truth).items()}
    whole = {
        k
        for k, x in truth.items()
        if k in results and results[k].shape == x.shape and bool(results[k].isfinite().all())
    }
    measured = relative_errors({k: results[k] if k in whole else x for k, x in truth.items()}, truth)
    return {name: Error(measured[name] if name in whole else float("inf"), allowed[name]) for name in truth}


def measure(
    case: Case, tensors: Tensors, gradients: Tensors, backend: str, n: int | None = None
) -> tuple[Tensors, dict[str, Error]]:
    """Results of ``backend``, and their errors beside the references in float64 and float32."""
    results = evaluate(case, tensors, gradients, backend, n)
    truth = evaluate(case, convert(tensors, torch.float64), gradients, "reference", n)
    if next(iter(tensors.values())).dtype == torch.float64:
        return results, errors(results, truth, None)
    return results, errors(results, truth, evaluate(case, tensors, gradients, "reference", n))
