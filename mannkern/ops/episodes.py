"""The operations of whole episodes, MANN's and the NTM's: schema and shapes of each, forward and backward.

``cell`` is None where the controller is one tanh layer; then ``recurrent_weight`` is of the read alone, and nothing is
kept of gates and cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mannkern import native
from mannkern.ops.library import define, library

_CONTROLLER = (
    "Tensor input, Tensor input_weight, Tensor bias, Tensor recurrent_weight, Tensor interface_weight, "
    "Tensor interface_bias, Tensor output, Tensor? cell, "
)
_BACKWARD = (
    "Tensor input, Tensor input_weight, Tensor recurrent_weight, Tensor interface_weight, Tensor output, "
    "Tensor? cell, Tensor memory, "
)
_KEPT = "Tensor outputs, Tensor copies, Tensor rows, Tensor gates, Tensor cells, Tensor interface, "
define(
    f"mann_episode({_CONTROLLER}Tensor memory, Tensor read_weights, Tensor usage, int num_least_used, bool per_head, "
    f"float decay, bool keep) -> ({', '.join(['Tensor'] * 11)})"
)
define(
    "mann_episode_backward(Tensor? grad_outputs, Tensor? grad_memory, Tensor? grad_read_weights, Tensor? grad_usage, "
    f"Tensor? grad_cell, {_BACKWARD}{_KEPT}Tensor least_used, bool per_head, float decay, bool wants_input) "
    f"-> ({', '.join(['Tensor'] * 11)})"
)
define(
    f"ntm_episode({_CONTROLLER}Tensor memory, Tensor weights, int write_heads, int shifts, bool keep) "
    f"-> ({', '.join(['Tensor'] * 9)})"
)
define(
    "ntm_episode_backward(Tensor? grad_outputs, Tensor? grad_memory, Tensor? grad_weights, Tensor? grad_cell, "
    f"{_BACKWARD}Tensor weights, {_KEPT}int write_heads, int shifts, bool wants_input) "
    f"-> ({', '.join(['Tensor'] * 10)})"
)


def _kept(
    input: Tensor, bias: Tensor, interface_bias: Tensor, cell: Tensor | None, memory: Tensor, rows: int, keep: bool
) -> tuple[Tensor, ...]:
    """Shapes of copies, rows, gates, cells and interface, as csrc/cpu/episode.h and controller_loop.h have them."""
    T, B, _ = input.shape
    _, N, W = memory.shape
    span, block = max(1, math.ceil(math.sqrt(T))), native.block(memory.dtype)
    blocks, steps = (N + block - 1) // block, T if keep else 1
    return (
        memory.new_empty((1 + (T - 1) // span if keep else 0, B, blocks, W * block)),
        memory.new_empty((steps + 1, B, rows, blocks * block)),
        memory.new_empty((T if cell is not None else 0, B, bias.shape[0])),
        memory.new_empty((0, B, bias.shape[0]) if cell is None else (steps, *cell.shape)),
        memory.new_empty((steps, B, interface_bias.shape[0])),
    )


def _like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in tensors)


def _cell(cell: Tensor | None, memory: Tensor, interface_weight: Tensor) -> Tensor:
    return memory.new_empty((0, interface_weight.shape[1]) if cell is None else cell.shape)


@torch.library.register_fake("mannkern::mann_episode", lib=library)
def _(
    input: Tensor,
    input_weight: Tensor,
    bias: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    keep: bool,
) -> tuple[Tensor, ...]:
    T, B, _ = input.shape
    return (
        memory.new_empty((T, *output.shape)),
        *_like(memory, read_weights, usage),
        _cell(cell, memory, interface_weight),
        *_kept(input, bias, interface_bias, cell, memory, 2 * read_weights.shape[1] + 1, keep),
        memory.new_empty((T if keep else 1, B, num_least_used), dtype=torch.int64),
    )


@torch.library.register_fake("mannkern::mann_episode_backward", lib=library)
def _(
    grad_outputs: Tensor | None,
    grad_memory: Tensor | None,
    grad_read_weights: Tensor | None,
    grad_usage: Tensor | None,
    grad_cell: Tensor | None,
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    outputs: Tensor,
    copies: Tensor,
    rows: Tensor,
    gates: Tensor,
    cells: Tensor,
    interface: Tensor,
    least_used: Tensor,
    per_head: bool,
    decay: float,
    wants_input: bool,
) -> tuple[Tensor, ...]:
    B, N, _ = memory.shape
    controller = _gradients(input, input_weight, recurrent_weight, interface_weight, output, cell, memory, wants_input)
    weights = memory.new_empty((B, rows.shape[2] // 2, N))
    return *controller, *_like(memory), weights, memory.new_empty((B, N))


@torch.library.register_fake("mannkern::ntm_episode", lib=library)
def _(
    input: Tensor,
    input_weight: Tensor,
    bias: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    weights: Tensor,
    write_heads: int,
    shifts: int,
    keep: bool,
) -> tuple[Tensor, ...]:
    return (
        memory.new_empty((input.shape[0], *output.shape)),
        *_like(memory, weights),
        _cell(cell, memory, interface_weight),
        *_kept(input, bias, interface_bias, cell, memory, 3 * weights.shape[1] + 1, keep),
    )


@torch.library.register_fake("mannkern::ntm_episode_backward", lib=library)
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
    cell: Tensor | None,
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
    controller = _gradients(input, input_weight, recurrent_weight, interface_weight, output, cell, memory, wants_input)
    return *controller, *_like(memory, weights)


def _gradients(
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    wants_input: bool,
) -> tuple[Tensor, ...]:
    """Of input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, output and cell."""
    return (
        memory.new_empty((input.shape[0] if wants_input else 0, *input.shape[1:])),
        *_like(input_weight, input_weight[:, 0], recurrent_weight, interface_weight, interface_weight[:, 0], output),
        _cell(cell, memory, interface_weight),
    )
