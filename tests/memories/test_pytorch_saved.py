"""What is saved for backward goes through PyTorch's own tools: activation checkpoints, save_on_cpu and hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mannkern import MANN, NTM

ALL = pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])


def run(module: Any, whole: bool, controller: str, backend: str) -> tuple[Callable[..., Any], Tensor, list[Tensor]]:
    """A sequence, or three steps of its cell, with its input (3, 2, 3) and its parameters."""
    torch.manual_seed(0)
    model = module(3, 5, 8, 4, 2, controller=controller, backend=backend, dtype=torch.float64, memory_init="learned")
    input = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def steps(x: Tensor) -> Tensor:
        outputs, state = [], None
        for step in x:
            output, state = model.cell(step, state)
            outputs.append(output)
        return torch.stack(outputs)

    return (lambda x: model(x)[0]) if whole else steps, input, [input, *model.parameters()]


@MODULES
@ALL
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("how", ["checkpoint", "save_on_cpu"])
def test_gradients_are_the_same(module: Any, whole: bool, controller: str, backend: str, how: str) -> None:
    forward, input, leaves = run(module, whole, controller, backend)
    expected = torch.autograd.grad(forward(input).square().sum(), leaves)
    if how == "checkpoint":
        output = checkpoint(forward, input, use_reentrant=False)
    else:
        with save_on_cpu():
            output = forward(input)
    for got, wanted in zip(torch.autograd.grad(output.square().sum(), leaves), expected, strict=True):
        assert torch.equal(got, wanted)


@MODULES
@ALL
@CONTROLLERS
@BACKENDS
def test_hooks_run_once_per_tensor(module: Any, whole: bool, controller: str, backend: str) -> None:
    forward, input, leaves = run(module, whole, controller, backend)
    packed: list[Tensor] = []
    unpacked: list[int] = []

    def pack(x: Tensor) -> int:
        packed.append(x)
        return len(packed) - 1

    def unpack(i: int) -> Tensor:
        unpacked.append(i)
        return packed[i]

    with saved_tensors_hooks(pack, unpack):
        output = forward(input)
    torch.autograd.grad(output.square().sum(), leaves)
    assert packed
    assert len(unpacked) == len(set(unpacked))


@MODULES
@ALL
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("how", ["save_on_cpu", "checkpoint"])
def test_second_derivatives(module: Any, whole: bool, controller: str, backend: str, how: str) -> None:
    """torch.func allows no hooks of saved tensors, and the gradient of a gradient is taken within them here."""
    forward, input, leaves = run(module, whole, controller, backend)

    def penalty(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(forward(x).square().sum(), x, create_graph=True)
        return gradient.square().sum()

    expected = torch.autograd.grad(penalty(input), leaves, allow_unused=True)
    if how == "save_on_cpu":
        with save_on_cpu():
            result = penalty(input)
    else:
        result = checkpoint(penalty, input, use_reentrant=False)
    for got, wanted in zip(torch.autograd.grad(result, leaves, allow_unused=True), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
