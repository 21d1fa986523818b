"""Gradients against finite differences, in float64 and on usages with a gap; and what a second derivative says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mannkern import functional
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
    assert torch.autograd.gradcheck(function, values, fast_mode=backend == "triton")  # whose interpreter is slow


@pytest.mark.parametrize("case", CASES)
def test_second_derivative_of_the_reference(case: str) -> None:
    function, values = as_function(case, SMALL, "reference")
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
    assert torch.autograd.gradgradcheck(function, values, gradients, fast_mode=True)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].operation != "usage_update"])
def test_second_derivative_of_a_kernel_is_an_error(kernel: str, case: str) -> None:
    """Not a value that leaves the penalty on the gradient out."""
    function, values = as_function(case, SMALL, kernel)
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], SMALL, torch.float64).values())
    outputs = function(*values)
    first = torch.autograd.grad(outputs, values, gradients, create_graph=True)
    penalised = sum(x.square().sum() for x in (*outputs, *first))
    with pytest.raises(RuntimeError, match=TWICE):
        torch.autograd.grad(penalised, values)


def test_second_derivative_of_usage_by_its_inputs_is_right(kernel: str) -> None:
    """Its gradient is linear and holds none of its inputs, so a penalty on it moves none."""
    seconds = []
    for backend in (kernel, "reference"):
        function, values = as_function("usage", SMALL, backend)
        gradients = tuple(x.requires_grad_() for x in cotangents(CASES["usage"], SMALL, torch.float64).values())
        outputs = function(*values)
        first = torch.autograd.grad(outputs, values, gradients, create_graph=True)
        seconds.append(torch.autograd.grad(sum(x.square().sum() for x in (*outputs, *first)), values))
    for kernels, references in zip(*seconds, strict=True):
        torch.testing.assert_close(kernels, references)


@pytest.mark.parametrize(
    "case", ["read_strength", "step_strength", "scan", "shift_sharpen", "ntm_address", "ntm_write"]
)
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


def test_no_gradient_of_the_choice(backend: str) -> None:
    usage = torch.tensor([[3.0, 1.0, 2.0]]).requires_grad_()
    assert not functional.least_used_mask(usage, 2, backend=backend).requires_grad


def test_gradients_of_the_norm_under_eps(backend: str) -> None:
    """Under eps the norm is the constant eps: scaling a short key scales its cosine, and that slope is the gradient."""
    memory = torch.tensor([[[0.6, 0.8], [0, 0]]], dtype=torch.float64)
    key = torch.tensor([[[3e-9, 4e-9]]], dtype=torch.float64, requires_grad=True)
    _, weights = functional.cosine_read(memory, key, backend=backend)
    (gradient,) = torch.autograd.grad(weights[0, 0, 0], key)
    # w = 1 / (1 + exp(-c)) with c = k.m / 1e-8 = 1/2: slope w (1 - w) m / 1e-8 = 0.2350037122015945 m / 1e-8
    torch.testing.assert_close(gradient, 0.2350037122015945e8 * memory[:, :1], rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "case", ["write_reset", "read_strength", "step_strength", "shift_sharpen", "ntm_address", "ntm_write"]
)
def test_changing_what_the_backward_pass_needs_is_an_error(kernel: str, case: str) -> None:
    tensors = arguments(CASES[case], SMALL)
    first, last = next(iter(tensors)), next(name for name in ("add", "key", "shift") if name in tensors)
    outputs = call(CASES[case], tensors | {first: tensors[first].requires_grad_(), last: tensors[last]}, kernel)
    tensors[last].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(sum(x.sum() for x in outputs.values()), tensors[first])
