"""The public operations of the NTM: they check arguments and choose the backend. See :mod:`mannkern.functional`."""

from __future__ import annotations

from torch import Tensor

from mannkern.backends import choose
from mannkern.memories.checks import (
    check_at_least,
    check_finite,
    check_first,
    check_shift,
    check_tensor,
    distinct,
    widen,
)
from mannkern.memories.ntm import reference
from mannkern.memories.ntm.ops.address import NTMAddressFunction
from mannkern.memories.ntm.ops.shift_sharpen import ShiftSharpenFunction
from mannkern.memories.ntm.ops.write import NTMWriteFunction


def shift_sharpen(weights: Tensor, shift: Tensor, sharpness: Tensor, *, backend: str | None = None) -> Tensor:
    """Shift, w_s(i) = sum_j s_j w((i - (j - S//2)) mod N), then sharpen, w' = softmax(y log w_s).

    weights (B, H, N) at least 0; shift s (B, H, S), on the simplex, S odd: the middle one stays, the one after it moves
    the focus to the next higher index; sharpness y (B, H) at least 1 and finite.
    Returns weights (B, H, N). Where w_s = 0 the weight is 0 and gradients are those of w_s^y / sum w_s^y. A row w_s of
    zeros becomes uniform, and passes no gradient.

    >>> weights, one = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]), torch.ones(1, 1)
    >>> to_the_next = torch.tensor([[[0.0, 0.0, 1.0]]])
    >>> mannkern.functional.shift_sharpen(weights, to_the_next, one)
    tensor([[[0., 0., 1., 0.]]])
    """
    B, H, N = check_first("weights", weights, "BHN")
    chosen = choose("ntm", backend, weights.device, N, R=H)
    weights = check_at_least(0, weights, "weights", weights, "BHN", (B, H, N))
    shift = check_shift(weights, shift, B, H)
    sharpness = check_finite(1, weights, "sharpness", sharpness, "BH", (B, H))
    if chosen.overload is None:
        return reference.shift_sharpen(weights, shift, sharpness)
    return ShiftSharpenFunction.apply_fast(weights, shift, sharpness)


def interpolate(content: Tensor, previous: Tensor, gate: Tensor) -> Tensor:
    """Interpolation: w_g[h] = g[h] w_c[h] + (1 - g[h]) w[h].

    It serves an addressing of your own, between content weights and :func:`shift_sharpen`. content w_c and previous w
    (B, H, N), gate g (B, H) in [0, 1]. It takes no backend, because it is plain PyTorch. Returns weights (B, H, N).

    >>> content, previous = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> mannkern.functional.interpolate(content, previous, torch.tensor([[0.25]]))
    tensor([[[0.2500, 0.7500]]])
    """
    B, H, N = check_first("content", content, "BHN")
    content = widen(content)
    previous = check_tensor(content, "previous", previous, "BHN", (B, H, N))
    gate = check_tensor(content, "gate", gate, "BH", (B, H))
    return reference.interpolate(content, previous, gate)


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
    """Content weights w_c = softmax_i(b cos(k, M(i))), interpolation, shift, sharpen.

    The result is shift_sharpen(g w_c + (1 - g) w_prev). memory (B, N, W), previous weights (B, H, N) at least 0, key k
    (B, H, W), strength b (B, H) at least 0, gate g (B, H) in [0, 1], shift (B, H, S) and sharpness (B, H) as of
    :func:`shift_sharpen`. A norm under 1e-8 counts as 1e-8 and passes no gradient. Returns weights (B, H, N).

    >>> memory, previous = torch.eye(3).unsqueeze(0), torch.full((1, 1, 3), 1 / 3)
    >>> key, strong, one = torch.tensor([[[0.0, 1.0, 0.0]]]), torch.full((1, 1), 50.0), torch.ones(1, 1)
    >>> stay = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> mannkern.functional.ntm_address(memory, previous, key, strong, one, stay, one).argmax(-1)
    tensor([[1]])
    """
    B, N, W = check_first("memory", memory, "BNW")
    H = check_first("key", key, "BHW")[1]
    chosen = choose("ntm", backend, memory.device, N, W, H)
    memory = widen(memory)
    previous = check_at_least(0, memory, "previous", previous, "BHN", (B, H, N))
    key = check_tensor(memory, "key", key, "BHW", (B, H, W))
    strength = check_finite(0, memory, "strength", strength, "BH", (B, H))
    gate = check_tensor(memory, "gate", gate, "BH", (B, H))
    shift = check_shift(memory, shift, B, H)
    sharpness = check_finite(1, memory, "sharpness", sharpness, "BH", (B, H))
    if chosen.overload is None:
        return reference.ntm_address(memory, previous, key, strength, gate, shift, sharpness)
    return NTMAddressFunction.apply_fast(memory, previous, key, strength, gate, shift, sharpness)[0]


def ntm_write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor, *, backend: str | None = None) -> Tensor:
    """M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h], elementwise over W: erase and add.

    memory (B, N, W), weights (B, H, N), erase e (B, H, W) in [0, 1], add a (B, H, W). Returns memory (B, N, W).

    >>> memory, weights = torch.ones(1, 2, 2), torch.tensor([[[1.0, 0.0]]])
    >>> mannkern.functional.ntm_write(memory, weights, torch.ones(1, 1, 2), torch.tensor([[[3.0, 4.0]]]))
    tensor([[[3., 4.],
             [1., 1.]]])
    """
    B, N, W = check_first("memory", memory, "BNW")
    H = check_first("weights", weights, "BHN")[1]
    chosen = choose("ntm", backend, memory.device, N, W, H)
    memory = widen(memory)
    weights = check_tensor(memory, "weights", weights, "BHN", (B, H, N))
    erase = check_tensor(memory, "erase", erase, "BHW", (B, H, W))
    add = check_tensor(memory, "add", distinct(add, erase), "BHW", (B, H, W))
    if chosen.overload is None:
        return reference.ntm_write(memory, weights, erase, add)
    return NTMWriteFunction.apply_fast(memory, weights, erase, add)
