"""The operations work under torch.func: grad, vmap, and each within the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.helpers import (
    CASES,
    MAIN_CASES,
    SMALL,
    Case,
    Tensors,
    arguments,
    assert_same,
    cotangents,
    evaluate,
    run_case,
)


def test_example() -> None:
    """A head writes its add to two slots with weights 1/2 and 1/4, so the sum's gradient is 3/4, for each memory."""
    memory, weights, add = torch.zeros(3, 1, 2, 1), torch.tensor([[[0.5, 0.25]]]), torch.ones(1, 1, 1)
    gradient = torch.func.grad(lambda a, m: functional.additive_write(m, weights, a).sum())
    assert torch.func.vmap(gradient, (None, 0))(add, memory).flatten().tolist() == [0.75] * 3


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_vmap_of_the_mask(backend: str, dim: int, capfd: pytest.CaptureFixture[str]) -> None:
    """It is one search, where PyTorch would otherwise loop over the mapped dimension, and warn."""
    usage = torch.rand(3, 2, 6)
    expected = torch.stack([functional.least_used_mask(u, 2, backend=backend) for u in usage])
    mapped = torch.func.vmap(lambda u: functional.least_used_mask(u, 2, backend=backend), dim)
    assert torch.equal(mapped(usage.movedim(0, dim)), expected)
    assert "batching rule" not in capfd.readouterr().err


NTM_CASES = ("shift_sharpen", "ntm_address", "ntm_write")


def loss_of(case: Case, backend: str, gradients: Tensors) -> Callable[[Tensors], Tensor]:
    return lambda tensors: sum((x * gradients[name]).sum() for name, x in run_case(case, tensors, backend).items())


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("case", MAIN_CASES)
def test_func_grad(case: str, backend: str) -> None:
    tensors, gradients = arguments(CASES[case], SMALL), cotangents(CASES[case], SMALL)
    constants = {name: x for name, x in tensors.items() if not x.is_floating_point()}
    leaves = {name: x for name, x in tensors.items() if x.is_floating_point()}
    loss = loss_of(CASES[case], backend, gradients)
    got = torch.func.grad(lambda values: loss(values | constants))(leaves)
    expected = evaluate(CASES[case], tensors, gradients, backend)
    assert_same({f"grad {name}": x for name, x in got.items()}, {k: x for k, x in expected.items() if "grad" in k})


def stacked(case: Case, count: int) -> list[Tensors]:
    return [arguments(case, SMALL, torch.float64, seed) for seed in range(count)]


@pytest.mark.parametrize("shared", [False, True], ids=["all_mapped", "memory_shared"])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("case", MAIN_CASES)
def test_vmap(case: str, dim: int, shared: bool) -> None:
    many = stacked(CASES[case], 3)
    first = next(iter(many[0]))
    if shared:
        many = [tensors | {first: many[0][first]} for tensors in many]
    in_dims = {name: None if shared and name == first else dim if x.dim() > 1 else 0 for name, x in many[0].items()}
    mapped = {
        name: many[0][name] if at is None else torch.stack([tensors[name] for tensors in many], at)
        for name, at in in_dims.items()
    }
    got = torch.func.vmap(lambda t: run_case(CASES[case], t, "cpp"), in_dims=(in_dims,))(mapped)
    for k, tensors in enumerate(many):
        assert_same({name: x[k] for name, x in got.items()}, run_case(CASES[case], tensors, "cpp"))


@pytest.mark.parametrize("case", ["read_strength", "step_strength", "step_per_head", "scan", *NTM_CASES])
def test_gradient_of_each_of_many(case: str) -> None:
    """vmap of grad gives every sample its own gradient; and so does vmap of vmap of grad."""
    many, gradients = stacked(CASES[case], 4), cotangents(CASES[case], SMALL, torch.float64)
    mapped = {name: torch.stack([tensors[name] for tensors in many]) for name in many[0]}
    gradient = torch.func.grad(loss_of(CASES[case], "cpp", gradients))
    got = torch.func.vmap(gradient)(mapped)
    twice = torch.func.vmap(torch.func.vmap(gradient))({k: x.unflatten(0, (2, 2)) for k, x in mapped.items()})
    assert_same({name: x.flatten(0, 1) for name, x in twice.items()}, got)
    for k, tensors in enumerate(many):
        expected = evaluate(CASES[case], tensors, gradients, "cpp")
        assert_same(
            {f"grad {name}": x[k] for name, x in got.items()}, {n: x for n, x in expected.items() if "grad" in n}
        )


@pytest.mark.parametrize("case", ["read_strength", "step_strength", "ntm_address", "ntm_write"])
def test_gradient_through_many(case: str) -> None:
    """grad of vmap is right for a memory that all samples share."""
    many = stacked(CASES[case], 3)
    mapped = {name: torch.stack([tensors[name] for tensors in many]) for name in many[0] if name != "memory"}

    def loss(memory: Tensor, backend: str) -> Tensor:
        out = torch.func.vmap(lambda t: run_case(CASES[case], t | {"memory": memory}, backend))(mapped)
        return sum(x.square().sum() for x in out.values())

    got = torch.func.grad(lambda memory: loss(memory, "cpp"))(many[0]["memory"])
    expected = torch.func.grad(lambda memory: loss(memory, "reference"))(many[0]["memory"])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_vmap_over_empty_batches() -> None:
    case = CASES["step_strength"]
    tensors = arguments(case, SMALL._replace(B=0))
    got = torch.func.vmap(lambda t: run_case(case, t, "cpp"))(
        {name: x.expand(3, *x.shape) for name, x in tensors.items()}
    )
    for name, x in run_case(case, tensors, "cpp").items():
        assert got[name].shape == (3, *x.shape)


@pytest.mark.parametrize("transform", ["jacrev", "vectorized", "row_by_row"])
@pytest.mark.parametrize("case", ["write", "read_strength", "usage", "step_strength", *NTM_CASES])
def test_jacobian(case: str, transform: str) -> None:
    """vmap over gradients of one output: it maps the backward pass and not the forward pass."""
    tensors = arguments(CASES[case], SMALL, torch.float64)
    first = next(iter(tensors))

    def jacobian(backend: str) -> Tensor:
        def function(x: Tensor) -> Tensor:
            return torch.cat([y.flatten() for y in run_case(CASES[case], tensors | {first: x}, backend).values()])

        if transform == "jacrev":
            return torch.func.jacrev(function)(tensors[first])
        return torch.autograd.functional.jacobian(function, tensors[first], vectorize=transform == "vectorized")

    torch.testing.assert_close(jacobian("cpp"), jacobian("reference"), rtol=1e-12, atol=1e-13)
