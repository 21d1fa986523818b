"""The read and the interpolation alone: by hand, beside the operations that contain them, and their errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mannkern import functional, reference
from tests.helpers import CASES, SHAPES, arguments

BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference", None])


def test_example() -> None:
    """Half of slot 0 and twice slot 1; and a gate of a quarter, which keeps three quarters of the step before."""
    memory, weights = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]]), torch.tensor([[[0.5, 2.0]]])
    assert functional.weighted_read(memory, weights).tolist() == [[[1.0, 6.0]]]
    content, previous = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    mixed = functional.interpolate(content, previous, torch.tensor([[0.25]]))
    assert mixed.tolist() == [[[0.25, 0.75]]]


@BACKENDS
def test_they_are_parts_of_the_operations(backend: str | None) -> None:
    tensors = arguments(CASES["read_strength"], SHAPES["odd"], torch.float64)
    read, weights = functional.cosine_read(**tensors, backend=backend)
    torch.testing.assert_close(functional.weighted_read(tensors["memory"], weights), read)
    t = arguments(CASES["ntm_address"], SHAPES["odd"], torch.float64)
    content = reference.cosine_weights(t["memory"], t["key"], t["strength"])
    mixed = functional.interpolate(content, t["previous"], t["gate"])
    sharpened = functional.shift_sharpen(mixed, t["shift"], t["sharpness"], backend=backend)
    torch.testing.assert_close(sharpened, functional.ntm_address(**t, backend=backend))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its forward derivatives
def test_derivatives() -> None:
    """They are plain PyTorch, so that second derivatives, forward derivatives and vmap work."""
    options: dict[str, Any] = {"dtype": torch.float64, "requires_grad": True}
    memory, weights, other = torch.randn(2, 5, 3, **options), torch.rand(2, 2, 5, **options), torch.rand(2, 2, 5)
    gate = torch.rand(2, 2, **options)
    for function, inputs in (
        (functional.weighted_read, (memory, weights)),
        (functional.interpolate, (weights, other.double(), gate)),
    ):
        assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(function, inputs)
    mapped = torch.vmap(functional.weighted_read, (None, 0))(memory, torch.stack([weights, 2 * weights]))
    torch.testing.assert_close(mapped[1], 2 * mapped[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    memory, weights = torch.randn(2, 5, 3).to(dtype), torch.rand(2, 2, 5).to(dtype)
    assert torch.equal(functional.weighted_read(memory, weights), weights.float() @ memory.float())
    assert functional.interpolate(weights, weights, weights[..., 0]).dtype == torch.float32


def test_errors_name_the_argument() -> None:
    memory, weights, gate = torch.zeros(2, 5, 3), torch.zeros(2, 2, 5), torch.zeros(2, 2)
    for function, inputs, text in (
        (functional.weighted_read, (memory[0], weights), r"memory: got shape \(5, 3\), need \(B, N, W\)"),
        (functional.weighted_read, (memory, weights[..., :4]), r"weights: got shape \(2, 2, 4\), need \(B, R, N\)"),
        (functional.weighted_read, (memory, weights.double()), "weights: got torch.float64, need torch.float32"),
        (functional.interpolate, (weights, weights[:1], gate), r"previous: got shape \(1, 2, 5\), need \(B, H, N\)"),
        (functional.interpolate, (weights, weights, gate[0]), r"gate: got shape \(2,\), need \(B, H\)"),
        (functional.interpolate, (weights, weights, 1.0), "gate: got float, need a tensor"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^{text}"):
            function(*inputs)
