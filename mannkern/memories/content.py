"""Content addressing in plain PyTorch, which every family's reference shares: cosine weights, and the read.

Equal slots get bit-equal weights wherever they lie, because LRUA breaks ties of usage by index. A matrix product does
not promise that (its edge tiles add up in another order), so the sums over W are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8  # of torch.nn.functional.cosine_similarity
MOST_STRENGTH = 2.0**64  # a larger strength or sharpness counts as this, and gives the weights of the limit


def cosine_weights(memory: Tensor, key: Tensor, strength: Tensor | None = None) -> Tensor:
    """Content weights (B, R, N), softmax_i(b[h] cos(k[h], M(i))), of keys (B, R, W) with strengths (B, R) or 1.

    A slot with an infinity or NaN gives NaN for every head, a key with one for its head.
    """
    key = key / _norm(key).unsqueeze(-1)  # before the product, which could overflow
    dot = torch.stack([(memory * k.unsqueeze(-2)).sum(-1) for k in key.unbind(1)], 1)
    cosine = dot / _norm(memory).unsqueeze(-2)
    if strength is None:
        return torch.softmax(cosine, -1)
    return torch.softmax(strength.clamp_max(MOST_STRENGTH).unsqueeze(-1) * cosine, -1)


def read(weights: Tensor, memory: Tensor) -> Tensor:
    """Read vectors (B, R, W), r[h] = sum_i w[h](i) M(i), in the memory's precision under autocast too."""
    device = memory.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return weights @ memory
    with torch.autocast(device, enabled=False):
        return weights @ memory


def _norm(x: Tensor) -> Tensor:
    """max(|x|, eps) over the last dimension; where the norm is under eps, its gradient is 0 and not NaN.

    It is NaN where a number is infinite or NaN.
    """
    scale = x.detach().abs().amax(-1).clamp_min(EPS)  # the squares neither overflow nor vanish
    square = (x / scale.unsqueeze(-1)).square().sum(-1)
    below = square.detach().sqrt() * scale <= EPS
    return torch.where(below, EPS, torch.where(below, 1.0, square).sqrt() * scale)
