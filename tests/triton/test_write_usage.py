"""The additive write and the usage update by hand. Accuracy: test_accuracy.py."""

from __future__ import annotations

import pytest
import torch

from mannkern import functional

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example() -> None:
    """Slot 1 is set to zero, then the weights 1 and 1/2 add (10, 20) to slot 0 and (5, 10) to slot 1."""
    memory, add = torch.tensor([[[1.0, 2], [3, 4]]]), torch.tensor([[[10.0, 20]]])
    weights = torch.tensor([[[1.0, 0.5]]])
    written = functional.additive_write(memory, weights, add, torch.tensor([1]), backend="triton")
    assert written.tolist() == [[[11, 22], [5, 10]]]


def test_example_of_usage() -> None:
    """Half of the usage (4, 2), and the read weights (1, 0) and write weights (1/2, 1/2)."""
    usage, reads, writes = torch.tensor([[4.0, 2]]), torch.tensor([[[1.0, 0]]]), torch.tensor([[[0.5, 0.5]]])
    assert functional.usage_update(usage, reads, writes, 0.5, backend="triton").tolist() == [[3.5, 1.5]]


def test_gradients_of_usage_lie_as_torch_compile_expects() -> None:
    """Contiguous, as its fake says, also where the gradient that came in is not."""
    grad = torch.rand(3, 2).t()
    for x in torch.ops.mannkern.usage_update_backward.recompute(grad, 2, 0.9):
        assert x.is_contiguous()


@pytest.mark.parametrize("slot", [0, 2])
def test_no_gradient_passes_the_reset(slot: int) -> None:
    """The slot that is set to zero gets gradient 0, the others the gradient of the written memory."""
    memory, weights, add = torch.rand(1, 3, 2, requires_grad=True), torch.rand(1, 1, 3), torch.rand(1, 1, 2)
    written = functional.additive_write(memory, weights, add, torch.tensor([slot]), backend="triton")
    (gradient,) = torch.autograd.grad(written.sum(), memory)
    assert gradient[0].tolist() == [[0.0, 0.0] if i == slot else [1.0, 1.0] for i in range(3)]
