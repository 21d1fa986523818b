"""Gradients against finite differences, in float64 and on usages with a gap; and what a second derivative says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers import CASES, SMALL, Shape, arguments, call, cotangents

SHAPES = {
    "small": SMALL,
    "one_of_each": Shape(1, 1, 1, 1, 1, T=2),
    "past_a_block": Shape(1, 17, 2, 1, 3, T=2),
}

TWICE = "twice|second time"  # what the error says


def as_function(case: str, shape: Shape, backend: str) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """The operation as a function of its float arguments alone, and those."""
    tensors = arguments(CASES[case], shape, torch.float64)
    names = [name for name, x in tensors.items() if x.is_floating_point()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(call(CASES[case], tensors | dict(zip(names, values)), backend, shape.n).values())

    return outputs, tuple(tensors[name].requires_grad_() for name in names)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_first_derivative(backend: str, case: str, shape: Shape) -> None:
    function, values = as_function(case, shape, backend)
    assert torch.autograd.gradcheck(function, values)


@pytest.mark.parametrize("case", CASES)
def test_second_derivative_of_the_reference(case: str) -> None:
    function, values = as_function(case, SMALL, "reference")
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
    assert torch.autograd.gradgradcheck(function, values, gradients, fast_mode=True)


@pytest.mark.parametrize("case", CASES)
def test_second_derivative_of_a_kernel_is_an_error(kernel: str, case: str) -> None:
    """Not a value that leaves the penalty on the gradient out."""
    function, values = as_function(case, SMALL, kernel)
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
    outputs = function(*values)
    first = torch.autograd.grad(outputs, values, gradients, create_graph=True)
    penalised = sum(x.square().sum() for x in (*outputs, *first))
    with pytest.raises(RuntimeError, match=TWICE):
        torch.autograd.grad(penalised, values)


@pytest.mark.parametrize("case", ["read_strength", "step_strength", "scan"])
@pytest.mark.parametrize("transform", ["grad", "jacrev"])
def test_second_derivative_by_functional_transforms_is_an_error(kernel: str, case: str, transform: str) -> None:
    function, values = as_function(case, SMALL, kernel)
    values = tuple(x.detach() for x in values)

    def loss(first: Tensor) -> Tensor:
        return sum(x.square().sum() for x in function(first, *values[1:]))

    second = {
        "grad": torch.func.grad(lambda x: torch.func.grad(loss)(x).square().sum()),
        "jacrev": torch.func.jacrev(torch.func.grad(loss)),
    }
    with pytest.raises(RuntimeError, match=TWICE):
        second[transform](values[0])
