"""What the fused steps of all cells share: when a cell takes one, what it takes and what it gives.

A fused step is a cell's own step, its controller included, as one operation. Its first arguments are the same for every
family; csrc/cpu/cell.h reads them:

    input             (B, F)
    hidden, cell      (B, D)         h and c before the step; None for one tanh layer
    ...                              the memory's state
    read              (B, R, W)      before the step
    weight            (G, F + R W)   of [x, r]: G = 4 D gates of torch.nn.LSTMCell, or G = D of one tanh layer
    recurrent_weight  (G, D)         of h; None for one tanh layer, as recurrent_bias
    bias, recurrent_bias (G)
    interface_weight  (I, D), interface_bias (I)

Its first three results are the output (B, D + R W), h and c. The backward step gives rows in place of gradients of
weights (:mod:`mannkern.memories.weight_gradients`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from mannkern.backends import choose
from mannkern.memories.cell import MemoryCell
from mannkern.memories.episode import is_plain
from mannkern.memories.function import is_differentiated_again
from mannkern.memories.weight_gradients import Five, Weights

_PLAIN = (nn.Parameter, Tensor)
_WIDE = (torch.float32, torch.float64)


def weights_of(cell: MemoryCell[Any]) -> Weights | None:
    """The weights of a plain cell, as a fused step takes them; None where something else stands for a parameter."""
    modules: Any = cell._modules
    controller: Any = modules["controller"]
    interface: Any = modules["interface"]._parameters
    try:
        if type(controller) is nn.LSTMCell:
            first: Any = controller._parameters
            given = first["weight_ih"], first["weight_hh"], first["bias_ih"], first["bias_hh"]
        else:
            first = controller._modules["linear"]._parameters
            given = first["weight"], None, first["bias"], None
        return *given, interface["weight"], interface["bias"]
    except KeyError:
        return None


def can_fuse(cell: MemoryCell[Any], input: Any) -> bool:
    """Whether a step of the cell on this input may be one operation, if the operation takes the state.

    It may for a plain cell in float32 or float64 in eager mode on a backend that has such steps, and nowhere that
    PyTorch transforms operations or changes their dtype.
    """
    if type(input) is not Tensor or torch.compiler.is_compiling() or not is_plain(cell):
        return False
    if input.shape[1:] != (cell.input_size,):  # which the operation cannot tell from reads of another width
        return False
    weight: Any = cell._modules["interface"]._parameters.get("weight")  # type: ignore[union-attr]
    if type(weight) not in _PLAIN or weight.dtype not in _WIDE:
        return False
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    return choose(cell.family, cell.backend, input.device).fuses_steps


def is_fused_state(cell: MemoryCell[Any], state_type: type[Any], state: Any) -> bool:
    """Whether a state has the parts that a fused step takes; the operation checks the tensors among them."""
    if type(state) is not state_type or not isinstance(state.memory, Tensor) or state.memory.is_nested:
        return False
    if state.memory.shape[1:] != (cell.memory_slots, cell.memory_width):  # the rest has to fit these and the weights
        return False
    size = 2 if isinstance(cell._modules["controller"], nn.LSTMCell) else 0
    return type(state.controller) is tuple and len(state.controller) == size


def pack(weights: Weights) -> Five:
    """Weights of a step as an episode has them, from input_weight to interface_bias."""
    weight, recurrent, bias, recurrent_bias, interface, interface_bias = weights
    if recurrent is None or recurrent_bias is None:
        return weight, bias, weight[:, :0], interface, interface_bias
    return weight, bias + recurrent_bias, recurrent, interface, interface_bias


def pack_output(hidden: Tensor | None, read: Tensor, interface_weight: Tensor) -> Tensor:
    """[h, r] before a step, as an episode takes them; h is zero for one tanh layer, which does not see it."""
    if hidden is None:
        hidden = read.new_zeros(read.shape[0], interface_weight.shape[1])
    return torch.cat([hidden, read.flatten(1)], 1)


def unpack_output(
    output: Tensor, hidden: Tensor | None, read: Tensor, *state: Tensor | None
) -> Iterator[Tensor | None]:
    """The results of a step behind its output (B, D + R W): h, None for one tanh layer, then the state, then r."""
    D = output.shape[1] - read.shape[1] * read.shape[2]
    yield None if hidden is None else output[:, :D]
    yield from state
    yield output[:, D:].unflatten(1, read.shape[1:])


def controller_results(
    input: Tensor, hidden: Tensor | None, read: Tensor, interface_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, h and c of a step: shapes for its fake."""
    B, D = input.shape[0], interface_weight.shape[1]
    of_lstm = input.new_empty((0 if hidden is None else B, D))
    return input.new_empty((B, D + read.shape[1] * read.shape[2])), of_lstm, torch.empty_like(of_lstm)


def controller_numbers(input: Tensor, weight: Tensor, interface_weight: Tensor) -> int:
    """Numbers that a step saves of its controller: gates and h."""
    return input.shape[0] * (weight.shape[0] + interface_weight.shape[1])


def controller_gradients(
    input: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    interface_weight: Tensor,
    needs_input_grad: bool,
    needs_weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, and of h as of c, and the rows of a backward step: shapes for its fake."""
    (B, F), D = input.shape, interface_weight.shape[1]
    d_input = input.new_empty((B if needs_input_grad else 0, F))
    d_hidden = input.new_empty((0 if hidden is None else B, D))
    row = sum(weight.shape) + sum(interface_weight.shape) + (0 if hidden is None else D)
    return d_input, d_hidden, input.new_empty((B if needs_weight_grad else 0, row))


def is_transformed() -> bool:
    """Whether a backward pass is differentiated again, or vectorised, so that it runs through the reference."""
    return is_differentiated_again() or torch._C._are_functorch_transforms_active()
