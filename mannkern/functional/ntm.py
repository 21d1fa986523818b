"""The operations of the NTM (Graves et al. 2014, section 3): H heads, S shifts, activated values."""

from __future__ import annotations

from torch import Tensor

from mannkern import checks
from mannkern.autograd import ntm as autograd
from mannkern.backends import choose
from mannkern.reference import ntm as reference


def shift_sharpen(weights: Tensor, shift: Tensor, sharpness: Tensor, *, backend: str | None = None) -> Tensor:
    """Move weights around and focus them: w_s(i) = sum_j s_j w((i - (j - S//2)) mod N), w' = softmax(y log w_s).

    Equations 8 and 9. weights (B, H, N) at least 0, of which one is above; shift s (B, H, S), on the simplex, S odd:
    the middle one stays, the one after it moves the focus to the next higher index; sharpness y (B, H) at least 1.
    Returns weights (B, H, N). Where w_s = 0 the weight is 0 and gradients are those of w_s^y / sum w_s^y.
    """
    B, H, N = checks.leading("weights", weights, "BHN")
    chosen = choose(backend, weights.device, N, R=H, family="ntm")
    weights = checks.at_least(0, weights, "weights", weights, "BHN", (B, H, N))
    shift = checks.shift(weights, shift, B, H)
    sharpness = checks.at_least(1, weights, "sharpness", sharpness, "BH", (B, H))
    if chosen == "reference":
        return reference.shift_sharpen(weights, shift, sharpness)
    return autograd.ShiftSharpen.call(weights, shift, sharpness)


def ntm_address(
    memory: Tensor,
    previous: Tensor,
    key: Tensor,
    strength: Tensor,
    gate: Tensor,
    shift: Tensor,
    sharpness: Tensor,
    *,
    backend: str | None = None,
) -> Tensor:
    """Weights by content, w_c = softmax_i(b cos(k, M(i))), then by place: shift_sharpen(g w_c + (1 - g) w_prev).

    Equations 5 to 9. memory (B, N, W), previous weights (B, H, N) at least 0, key k (B, H, W), strength b (B, H) at
    least 0, gate g (B, H) in [0, 1], shift (B, H, S) and sharpness (B, H) as of :func:`shift_sharpen`. A norm under
    1e-8 counts as 1e-8 and passes no gradient. Returns weights (B, H, N).
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    H = checks.leading("key", key, "BHW")[1]
    chosen = choose(backend, memory.device, N, W, H, family="ntm")
    memory = checks.widen(memory)
    previous = checks.at_least(0, memory, "previous", previous, "BHN", (B, H, N))
    key = checks.like(memory, "key", key, "BHW", (B, H, W))
    strength = checks.at_least(0, memory, "strength", strength, "BH", (B, H))
    gate = checks.like(memory, "gate", gate, "BH", (B, H))
    shift = checks.shift(memory, shift, B, H)
    sharpness = checks.at_least(1, memory, "sharpness", sharpness, "BH", (B, H))
    if chosen == "reference":
        return reference.ntm_address(memory, previous, key, strength, gate, shift, sharpness)
    return autograd.Address.call(memory, previous, key, strength, gate, shift, sharpness)[0]


def ntm_write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor, *, backend: str | None = None) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h], elementwise over W. Equations 3 and 4.

    memory (B, N, W), weights (B, H, N), erase e (B, H, W) in [0, 1], add a (B, H, W). Returns memory (B, N, W).
    """
    B, N, W = checks.leading("memory", memory, "BNW")
    H = checks.leading("weights", weights, "BHN")[1]
    chosen = choose(backend, memory.device, N, W, H, family="ntm")
    memory = checks.widen(memory)
    weights = checks.like(memory, "weights", weights, "BHN", (B, H, N))
    erase = checks.like(memory, "erase", erase, "BHW", (B, H, W))
    add = add.view_as(add) if add is erase else add  # torch.compile wants two tensors
    add = checks.like(memory, "add", add, "BHW", (B, H, W))
    if chosen == "reference":
        return reference.ntm_write(memory, weights, erase, add)
    return autograd.Write.call(memory, weights, erase, add)
