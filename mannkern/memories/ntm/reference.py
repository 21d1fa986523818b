"""The addressing and the write of the Neural Turing Machine (Graves et al. 2014, section 3), in plain PyTorch.

B episodes, N memory slots, W width of a slot, H heads, S shifts. Every function takes any device and float dtype, is
differentiable by autograd, and writes to none of its inputs. docs/equations.md defines the equations by name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.memories.content import MOST_STRENGTH, cosine_weights

LEAST_TOP = {torch.float32: 2.0**-100, torch.float64: 2.0**-1000}  # under it a row's gradient could overflow


def shift_sharpen(weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
    """Shift, a circular convolution of weights (B, H, N) with shifts (B, H, S); then sharpen, w^y / sum w^y.

    Sharpen is written as powers of w_s / max w_s. Like softmax(y log w_s) it does not underflow to 0/0; but at w_s = 0
    a power has the gradient of the formula, also for y = 1, where the gradient of the logarithm is NaN. A row w_s of
    zeros becomes uniform, and passes no gradient; neither does a row under LEAST_TOP.
    """
    S = shift.shape[-1]
    shifted = torch.zeros_like(weights)
    for j in range(S):
        shifted = shifted + shift[..., j : j + 1] * weights.roll(j - S // 2, -1)
    top = shifted.detach().amax(-1, keepdim=True)
    lift = (top == 0).to(top.dtype)  # to each number of a row of zeros
    shifted = torch.where(top < LEAST_TOP[top.dtype], shifted.detach(), shifted)
    y = sharpness.clamp_max(MOST_STRENGTH).unsqueeze(-1)
    powers = ((shifted + lift) / (top + lift)) ** y
    return torch.where(y.isnan(), y, powers / powers.sum(-1, keepdim=True))  # 1 to the power of NaN is 1


def interpolate(content: Tensor, previous: Tensor, gate: Tensor) -> Tensor:
    """Interpolation: g w_c + (1 - g) w of content and previous weights (B, H, N) with gates (B, H)."""
    g = gate.unsqueeze(-1)
    return g * content + (1 - g) * previous


def ntm_address(
    memory: Tensor, previous: Tensor, key: Tensor, strength: Tensor, gate: Tensor, shift: Tensor, sharpness: Tensor
) -> Tensor:
    """Weights (B, H, N): content weights, interpolation with ``previous``, shift, sharpen."""
    content = cosine_weights(memory, key, strength)
    return shift_sharpen(interpolate(content, previous, gate), shift, sharpness)


def ntm_write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h]. Erase and add, all heads at once.

    The factors are multiplied one by one, because the gradient of torch.prod divides by them and waits for a GPU to say
    whether one is 0.
    """
    outer = weights.unsqueeze(-1)  # (B, H, N, 1)
    for factor in (1 - outer * erase.unsqueeze(-2)).unbind(1):
        memory = memory * factor
    return memory + (outer * add.unsqueeze(-2)).sum(1)
