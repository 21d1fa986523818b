"""What tests of the scan share: the arguments of an episode's start, the same scan step by step, many steps."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.lrua.reference import least_used_slots
from mannkern.memories.lrua.verification import OPERATIONS
from tests.helpers import (
    CASES,
    Case,
    Shape,
    Tensors,
    arguments,
    assert_accurate,
    convert,
    cotangents,
    evaluate,
    run_case,
)

STATE = ("memory", "read_weights", "usage")


def episode(case: Case, shape: Shape, dtype: torch.dtype, seed: int = 0) -> Tensors:
    """Arguments of a scan that begins as an episode does: memory 1e-6, read weights and usage at slot 0."""
    tensors = arguments(case, shape, dtype, seed)
    tensors["memory"] = torch.full_like(tensors["memory"], 1e-6)
    for name in ("read_weights", "usage"):
        tensors[name] = torch.zeros_like(tensors[name])
        tensors[name][..., 0] = 1
    return tensors


def by_steps(case: Case, tensors: Tensors, gradients: Tensors, n: int, backend: str) -> Tensors:
    """Outputs and gradients of the same scan by a call of lrua_step at each step."""
    leaves = {name: x.detach().requires_grad_() for name, x in tensors.items()}
    state, reads = {name: leaves[name] for name in STATE}, []
    for t in range(len(leaves["keys"])):
        interface = {name.removesuffix("s"): x[t] for name, x in leaves.items() if name not in STATE}
        step = run_case(Case(OPERATIONS["lrua_step"], case.optional, case.options), state | interface, backend, n)
        state = {name: step[name] for name in STATE}
        reads.append(step["read"])
    outputs = {"reads": torch.stack(reads), **state}
    results = torch.autograd.grad(list(outputs.values()), list(leaves.values()), list(gradients.values()))
    return {name: x.detach() for name, x in outputs.items()} | {f"grad {k}": x for k, x in zip(leaves, results)}


def slots(case: Case, tensors: Tensors, shape: Shape) -> Tensor:
    """The least used slot (T) of each step of one episode, by the reference."""
    state, results = {name: tensors[name] for name in STATE}, []
    for t in range(shape.T):
        results.append(least_used_slots(state["usage"], 1)[0])
        interface = {name.removesuffix("s"): x[t] for name, x in tensors.items() if name not in STATE}
        step = run_case(Case(OPERATIONS["lrua_step"], options=case.options), state | interface, "reference", shape.n)
        state = {name: step[name] for name in STATE}
    return torch.cat(results)


def many_steps(backend: str, T: int) -> Tensor:
    """The slots that T steps choose, after the accuracy rule held for them, and for the first and last 10 alone."""
    case, shape = CASES["scan"], Shape(1, 8, 4, 1, 1, T=T)
    tensors, gradients = episode(case, shape, torch.float32), cotangents(case, shape)
    wide = convert(tensors, torch.float64)
    got = evaluate(case, tensors, gradients, backend, shape.n)
    chosen = slots(case, wide, shape)
    assert torch.equal(chosen, slots(case, tensors, shape)), "rounding chooses slots: another seed is needed"
    truth, rounded = (evaluate(case, x, gradients, "reference", shape.n) for x in (wide, tensors))
    assert_accurate(got, truth, rounded)
    for part in (slice(10), slice(-10, None)):
        some = (
            {f"grad {x}": results[f"grad {x}"][part] for x in ("keys", "adds", "gates")}
            for results in (got, truth, rounded)
        )
        assert_accurate(*some)
    return chosen
