"""Gradients of LRUA at special places: a norm under eps, the usage twice, the choice of slots."""

from __future__ import annotations

import torch

from mannkern import functional
from tests.helpers import CASES, SMALL, as_function, cotangents


def test_example(backend: str) -> None:
    """Under eps the norm is the constant eps: scaling a short key scales its cosine, and that slope is the gradient."""
    memory = torch.tensor([[[0.6, 0.8], [0, 0]]], dtype=torch.float64)
    key = torch.tensor([[[3e-9, 4e-9]]], dtype=torch.float64, requires_grad=True)
    _, weights = functional.cosine_read(memory, key, backend=backend)
    (gradient,) = torch.autograd.grad(weights[0, 0, 0], key)
    # w = 1 / (1 + exp(-c)) with c = k.m / 1e-8 = 1/2: slope w (1 - w) m / 1e-8 = 0.2350037122015945 m / 1e-8
    torch.testing.assert_close(gradient, 0.2350037122015945e8 * memory[:, :1], rtol=1e-14, atol=0)


def test_second_derivative_of_usage_by_its_inputs_is_right(kernel: str) -> None:
    """The gradient of usage does not depend on its inputs, so a penalty on that gradient has no gradient."""
    seconds = []
    for backend in (kernel, "reference"):
        function, values = as_function("usage", SMALL, backend)
        gradients = tuple(x.requires_grad_() for x in cotangents(CASES["usage"], SMALL, torch.float64).values())
        outputs = function(*values)
        first = torch.autograd.grad(outputs, values, gradients, create_graph=True)
        seconds.append(torch.autograd.grad(sum(x.square().sum() for x in (*outputs, *first)), values))
    for kernels, references in zip(*seconds, strict=True):
        torch.testing.assert_close(kernels, references)


def test_no_gradient_of_the_choice(backend: str) -> None:
    usage = torch.tensor([[3.0, 1.0, 2.0]]).requires_grad_()
    assert not functional.least_used_mask(usage, 2, backend=backend).requires_grad
