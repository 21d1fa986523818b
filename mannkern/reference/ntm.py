"""The addressing and the write of the Neural Turing Machine (Graves et al. 2014, section 3), in plain PyTorch.

B episodes, N memory slots, W width of a slot, H heads, S shifts. Every function takes any device and float dtype, is
differentiable by autograd, and writes to none of its inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.reference.lrua import cosine_weights


def shift_sharpen(weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
    """Circular convolution of (B, H, N) with shifts (B, H, S), then w^y / sum w^y. Equations 8 and 9.

    softmax(y log w_s) is written as powers of w_s / max w_s: neither underflows to 0/0, but a power at w_s = 0 has the
    gradient of the formula, also for y = 1, where that of the logarithm is NaN.
    """
    S, N = shift.shape[-1], weights.shape[-1]
    places = torch.arange(N, device=weights.device)
    shifted = torch.zeros_like(weights)
    for j in range(S):
        shifted = shifted + shift[..., j : j + 1] * weights[..., (places - (j - S // 2)) % N]
    powers = (shifted / shifted.detach().amax(-1, keepdim=True)) ** sharpness.unsqueeze(-1)
    return powers / powers.sum(-1, keepdim=True)


def ntm_address(
    memory: Tensor, previous: Tensor, key: Tensor, strength: Tensor, gate: Tensor, shift: Tensor, sharpness: Tensor
) -> Tensor:
    """Weights (B, H, N) by content, interpolation with ``previous``, shift and sharpening. Equations 5 to 9."""
    content = cosine_weights(memory, key, strength)
    g = gate.unsqueeze(-1)
    return shift_sharpen(g * content + (1 - g) * previous, shift, sharpness)


def ntm_write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h]. Equations 3 and 4, all heads at once.

    Factor by factor: the gradient of torch.prod divides by them, and reads back from a GPU whether one is 0.
    """
    outer = weights.unsqueeze(-1)  # (B, H, N, 1)
    for kept in (1 - outer * erase.unsqueeze(-2)).unbind(1):
        memory = memory * kept
    return memory + (outer * add.unsqueeze(-2)).sum(1)
