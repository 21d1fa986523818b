"""The operations of the NTM: schema and shapes of each, forward and backward."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mannkern import native
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
define(
    "ntm_lstm(Tensor input, Tensor input_weight, Tensor bias, Tensor recurrent_weight, Tensor interface_weight, "
    "Tensor interface_bias, Tensor output, Tensor cell, Tensor memory, Tensor weights, int write_heads, int shifts) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define(
    "ntm_lstm_backward(Tensor? grad_outputs, Tensor? grad_memory, Tensor? grad_weights, Tensor? grad_cell, "
    "Tensor input, Tensor input_weight, Tensor recurrent_weight, Tensor interface_weight, Tensor output, Tensor cell, "
    "Tensor memory, Tensor weights, Tensor outputs, Tensor copies, Tensor rows, Tensor gates, Tensor cells, "
    "Tensor interface, int write_heads, int shifts, bool wants_input) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
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


@torch.library.register_fake("mannkern::ntm_lstm", lib=library)
def _(
    input: Tensor,
    input_weight: Tensor,
    bias: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Tensor,
    memory: Tensor,
    weights: Tensor,
    write_heads: int,
    shifts: int,
) -> tuple[Tensor, ...]:
    T, B, _ = input.shape
    _, N, W = memory.shape
    span, block = max(1, math.ceil(math.sqrt(T))), native.block(memory.dtype)
    blocks = (N + block - 1) // block
    return (
        memory.new_empty((T, *output.shape)),
        *_empty_like(memory, weights),
        memory.new_empty((1 + (T - 1) // span, B, blocks, W * block)),
        memory.new_empty((T + 1, B, 3 * weights.shape[1] + 1, blocks * block)),
        memory.new_empty((T, B, bias.shape[0])),
        memory.new_empty((T, *cell.shape)),
        memory.new_empty((T, B, interface_bias.shape[0])),
    )


@torch.library.register_fake("mannkern::ntm_lstm_backward", lib=library)
def _(
    grad_outputs: Tensor | None,
    grad_memory: Tensor | None,
    grad_weights: Tensor | None,
    grad_cell: Tensor | None,
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor,
    memory: Tensor,
    weights: Tensor,
    outputs: Tensor,
    copies: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    write_heads: int,
    shifts: int,
    wants_input: bool,
) -> tuple[Tensor, ...]:
    return (
        memory.new_empty((input.shape[0] if wants_input else 0, *input.shape[1:])),
        memory.new_empty(input_weight.shape),
        memory.new_empty(gates.shape[2:]),
        *_empty_like(recurrent_weight, interface_weight),
        memory.new_empty(interface.shape[2:]),
        *_empty_like(output, cell, memory, weights),
    )
