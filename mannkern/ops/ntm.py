"""The operations of the NTM: schema and shapes of each, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern.ops.library import define, library

define("shift_sharpen(Tensor weights, Tensor shift, Tensor sharpness) -> Tensor")
define(
    "shift_sharpen_backward(Tensor grad, Tensor weights, Tensor shift, Tensor sharpness, Tensor sharpened) "
    "-> (Tensor, Tensor, Tensor)"
)
define(
    "ntm_address(Tensor memory, Tensor previous, Tensor key, Tensor strength, Tensor gate, Tensor shift, "
    "Tensor sharpness) -> (Tensor, Tensor, Tensor, Tensor)"
)
define(
    "ntm_address_backward(Tensor grad, Tensor memory, Tensor previous, Tensor key, Tensor strength, Tensor gate, "
    "Tensor shift, Tensor sharpness, Tensor weights, Tensor content, Tensor cosine, Tensor norm) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define("ntm_write(Tensor memory, Tensor weights, Tensor erase, Tensor add) -> Tensor")
define(
    "ntm_write_backward(Tensor grad, Tensor memory, Tensor weights, Tensor erase, Tensor add) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def _empty_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in tensors)


@torch.library.register_fake("mannkern::shift_sharpen", lib=library)
def _(weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
    return weights.new_empty(weights.shape)


@torch.library.register_fake("mannkern::shift_sharpen_backward", lib=library)
def _(grad: Tensor, weights: Tensor, shift: Tensor, sharpness: Tensor, sharpened: Tensor) -> tuple[Tensor, ...]:
    return _empty_like(weights, shift, sharpness)


@torch.library.register_fake("mannkern::ntm_address", lib=library)
def _(
    memory: Tensor, previous: Tensor, key: Tensor, strength: Tensor, gate: Tensor, shift: Tensor, sharpness: Tensor
) -> tuple[Tensor, ...]:
    return (*_empty_like(previous, previous, previous), memory.new_empty(memory.shape[:2]))


@torch.library.register_fake("mannkern::ntm_address_backward", lib=library)
def _(
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
) -> tuple[Tensor, ...]:
    return _empty_like(memory, previous, key, strength, gate, shift, sharpness)


@torch.library.register_fake("mannkern::ntm_write", lib=library)
def _(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    return memory.new_empty(memory.shape)


@torch.library.register_fake("mannkern::ntm_write_backward", lib=library)
def _(grad: Tensor, memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> tuple[Tensor, ...]:
    return _empty_like(memory, weights, erase, add)
