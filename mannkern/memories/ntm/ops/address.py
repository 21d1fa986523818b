"""The operation ``ntm_address``: content weights, interpolation, shift and sharpen, with its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mannkern.memories.direct import give_gradient
from mannkern.memories.function import MemoryFunction, below_autograd, call_backward, gradient_of, takes
from mannkern.memories.library import empty_like, operation
from mannkern.memories.ntm import reference


@operation("ntm_address", "default")
def ntm_address(
    memory: Tensor, previous: Tensor, key: Tensor, strength: Tensor, gate: Tensor, shift: Tensor, sharpness: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights (B, H, N); then content weights and cosines (B, H, N) and norms (B, N), saved for backward."""
    return *empty_like(previous, previous, previous), memory.new_empty(memory.shape[:2])


@operation("ntm_address_backward", "default")
def ntm_address_backward(
    grad: Tensor,
    memory: Tensor,
    previous: Tensor,
    key: Tensor,
    strength: Tensor,
    gate: Tensor,
    shift: Tensor,
    sharpness: Tensor,
    weights: Tensor,
    content: Tensor,
    cosine: Tensor,
    norm: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the arguments of ``ntm_address``."""
    return empty_like(memory, previous, key, strength, gate, shift, sharpness)


_reference_backward = gradient_of(reference.ntm_address, 1, 7)


class NTMAddressFunction(MemoryFunction):
    """The arguments of ``ntm_address`` -> weights, and what is saved for backward."""

    @staticmethod
    @takes(ntm_address)
    def forward(*args: Any) -> tuple[Tensor, ...]:
        return below_autograd(ntm_address["default"], *args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return (None,) * 7
        return call_backward(ntm_address_backward["default"], _reference_backward, grads[0], *ctx.saved_tensors)


give_gradient(ntm_address, lambda *args: NTMAddressFunction.apply_fast(*args[:-1]))
