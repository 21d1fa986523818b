"""Gradients equal finite differences in float64, and second derivatives of a kernel equal those of the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.helpers import CASES, MAIN_CASES, SMALL, Shape, arguments, as_function, cotangents, on_kernels, run_case
from tests.interpreter import cell, interpreted, on_shapes


def test_example() -> None:
    """Usage is u / 2 + w: of a gradient [1, 10], half goes to u and all of it to w."""
    usage, weights = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 1, 2, requires_grad=True)
    functional.usage_update(usage, weights, weights.detach(), 0.5).backward(torch.tensor([[1.0, 10]]))
    assert usage.grad.tolist() == [[0.5, 5]]
    assert weights.grad.tolist() == [[[1, 10]]]


SHAPES = {
    "small": SMALL,
    "one_of_each": Shape(1, 1, 1, 1, 1, T=2),
    "past_a_block": Shape(1, 17, 2, 1, 3, T=2),
}


@on_shapes(CASES, SHAPES, [], reference=True)
def test_first_derivative(backend: str, case: str, shape: Shape) -> None:
    assert torch.autograd.gradcheck(*as_function(case, shape, backend))


@interpreted
@pytest.mark.parametrize("case", [name for name in MAIN_CASES if CASES[name].operation.family == "lrua"])
def test_first_derivative_of_interpreted_kernels(case: str) -> None:
    """One case of each operation, along one direction: tests/triton compares every path's gradients to 1e-12."""
    function, values = as_function(case, cell(case, "whole").shape, "triton")
    assert torch.autograd.gradcheck(function, values, fast_mode=True)


@pytest.mark.parametrize("case", CASES)
def test_second_derivative_of_the_reference(case: str) -> None:
    function, values = as_function(case, SMALL, "reference")
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
    assert torch.autograd.gradgradcheck(function, values, gradients, fast_mode=True)


@on_kernels(CASES)
def test_second_derivative_of_a_kernel(kernel: str, case: str) -> None:
    """The gradient of a penalty on the gradient, as in training with such a penalty."""
    results = []
    for backend in (kernel, "reference"):
        function, values = as_function(case, SMALL, backend)
        gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
        outputs = function(*values)
        first = torch.autograd.grad(outputs, values, gradients, create_graph=True)
        penalised = sum(x.square().sum() for x in (*outputs, *first))
        results.append(torch.autograd.grad(penalised, (*values, *gradients)))
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


def loss_of_first(case: str, backend: str) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A function of the first argument, and a value of it."""
    function, values = as_function(case, SMALL, backend)
    first, *others = (x.detach() for x in values)
    return lambda x: sum(y.square().sum() for y in function(x, *others)), first


TRANSFORMED = ["read_strength", "step_strength", "scan", "shift_sharpen", "ntm_address", "ntm_write"]


@on_kernels(TRANSFORMED)
def test_func_grad_of_grad(kernel: str, case: str) -> None:
    def second(backend: str) -> Tensor:
        loss, first = loss_of_first(case, backend)
        return torch.func.grad(lambda x: torch.func.grad(loss)(x).square().sum())(first)

    torch.testing.assert_close(second(kernel), second("reference"), rtol=1e-11, atol=1e-11)


@on_kernels(TRANSFORMED, interpreted=False)
def test_func_jacrev_of_grad(kernel: str, case: str) -> None:
    """It maps the derivatives of a gradient, so that a whole batch of them is pulled back at once."""

    def second(backend: str) -> Tensor:
        loss, first = loss_of_first(case, backend)
        return torch.func.jacrev(torch.func.grad(loss))(first)

    torch.testing.assert_close(second(kernel), second("reference"), rtol=1e-11, atol=1e-11)


@on_kernels(["write_reset", "read_strength", "step_strength", "shift_sharpen", "ntm_address", "ntm_write"])
def test_changing_what_the_backward_pass_needs_is_an_error(kernel: str, case: str) -> None:
    tensors = arguments(CASES[case], SMALL)
    first, last = next(iter(tensors)), next(name for name in ("add", "key", "shift") if name in tensors)
    outputs = run_case(CASES[case], tensors | {first: tensors[first].requires_grad_(), last: tensors[last]}, kernel)
    tensors[last].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(sum(x.sum() for x in outputs.values()), tensors[first])
