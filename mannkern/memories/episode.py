"""What the fused episodes of all families share: how a cell's weights are packed, and the shapes of what is saved.

An episode operation runs a whole loop over time in compiled code. Its first eight arguments are the same for every
family; csrc/README.md draws their layouts and csrc/cpu/controller_loop.h reads them:

    input             (T, B, F)
    input_weight      (G, F + R W) of [x, r]; G = 4 D gates of an LSTM in the order of torch.nn.LSTMCell; G = D for
                                   one tanh layer
    bias              (G)          of an LSTM the sum of its two biases
    recurrent_weight  (G, D)       of h; for one tanh layer (G, 0), since it does not see h
    interface_weight  (I, D)
    interface_bias    (I)
    output            (B, D + R W) [h, r] before the first step
    cell              (B, D)       c before the first step; None for one tanh layer

Behind the state, and before the options, come three that may be None:

    lengths           (B), int64   steps of each episode, the longest first; None: all T
    reset             (T, B), bool whether an episode starts anew before a step; None: nowhere
    initial_memory    (N, W)       what the memory of an episode that starts anew is; None without resets
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from mannkern.backends import native
from mannkern.backends.onnx import is_exporting
from mannkern.memories import controllers
from mannkern.memories.cell import START_METHODS, STEP_METHODS, MemoryCell
from mannkern.memories.checks import widen
from mannkern.memories.controllers import FeedForward
from mannkern.memories.library import empty_like

State = tuple[Any, ...]


def is_plain(cell: MemoryCell[Any]) -> bool:
    """Whether the fused loops compute what the cell computes.

    They do not with a method or module of the user's own, nor with a hook, be it of one module or of all. Nor can they
    read weights that are no plain tensors, such as quantised ones.
    """
    if _has_any_global_hook():
        return False
    if not getattr(type(cell), "fused_episode_is_current", False):
        return False
    own = cell.__dict__
    if any(name in own for name in STEP_METHODS):
        return False
    modules = cell._modules  # an attribute of a module is found there last, after several other places
    controller: Any = modules["controller"]
    linears: tuple[Any, ...] = (modules["interface"],)
    if type(controller) is FeedForward:
        linears = *linears, controller.linear
    elif type(controller) is not nn.LSTMCell or not controller.bias:
        return False
    if has_hooks(cell) or is_called(controller):
        return False
    if any(is_wrapped(x) for module in (controller, *linears) for x in module._parameters.values()):
        return False
    return all(type(linear) is nn.Linear and linear.bias is not None and not is_called(linear) for linear in linears)


def is_wrapped(weight: Tensor | None) -> bool:
    """Whether a weight is of a class that holds other tensors in place of its numbers."""
    return type(weight) is not nn.Parameter and hasattr(weight, "__tensor_flatten__")


def starts_plain(cell: MemoryCell[Any]) -> bool:
    """Whether episodes start anew in the fused loops as they do in the cell: by no method of the user's."""
    return type(cell).starts_as_defined and not any(name in cell.__dict__ for name in START_METHODS)


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs hooks, which a call of its methods would not."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def is_called(module: nn.Module) -> bool:
    """Whether the module has to be called: it has hooks, or a ``forward`` of its own, as wrapping libraries give it."""
    return has_hooks(module) or "forward" in module.__dict__


def saves_for_backward() -> bool:
    """Whether an episode saves what its gradient reads. An exported program has no backward pass."""
    return torch.is_grad_enabled() and not is_exporting()


def hidden_dtype(cell: MemoryCell[Any], device_type: str) -> torch.dtype:
    """The dtype of hidden states in a loop over a plain cell: the parameters', or under autocast that of autocast.

    On the CPU autocast leaves an LSTM as it is, and everywhere what is float64.
    """
    dtype = cell.interface.weight.dtype
    as_it_is = dtype == torch.float64 or (device_type == "cpu" and isinstance(cell.controller, nn.LSTMCell))
    return dtype if as_it_is or not torch.is_autocast_enabled(device_type) else torch.get_autocast_dtype(device_type)


def pack_weights(cell: MemoryCell[Any]) -> tuple[Tensor, ...]:
    """The weights of a plain cell, from input_weight to interface_bias, widened to float32."""
    controller = cell.controller
    interface = widen(cell.interface.weight), widen(cell.interface.bias)
    if isinstance(controller, FeedForward):
        weight, bias = widen(controller.linear.weight), widen(controller.linear.bias)
        return weight, bias, weight.new_empty(weight.shape[0], 0), *interface
    assert isinstance(controller, nn.LSTMCell)  # the caller has checked is_plain
    bias = widen(controller.bias_ih) + widen(controller.bias_hh)
    return widen(controller.weight_ih), bias, widen(controller.weight_hh), *interface


def join_recurrent(input_weight: Tensor, recurrent_weight: Tensor, F: int) -> Tensor:
    """The weight (G, D + R W) of [h, r], of one tanh layer (G, R W) of r, for kernels that take it in one piece."""
    return torch.cat([recurrent_weight, input_weight[:, F:]], 1)


def split_recurrent(d_input: Tensor, d_recurrent: Tensor, D: int) -> tuple[Tensor, Tensor]:
    """Gradients of input_weight and recurrent_weight from those of the weights of x and of what they are joined to.

    D: the columns of h in d_recurrent, none for one tanh layer.
    """
    return torch.cat([d_input, d_recurrent[:, D:]], 1), d_recurrent[:, :D].contiguous()


def pack_state(cell: MemoryCell[Any], state: Any) -> tuple[Tensor, Tensor | None]:
    """The arguments ``output`` and ``cell``, widened. h is zero for one tanh layer, which does not see it."""
    read = state.read.flatten(1)
    if not state.controller:
        return torch.cat([read.new_zeros(read.shape[0], cell.hidden_size), read], 1), None
    hidden, c = map(widen, state.controller)
    return torch.cat([hidden, read], 1), c


def packed_controller(
    x: Tensor, output: Tensor, cell: Tensor | None, input_weight: Tensor, bias: Tensor, recurrent_weight: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A step of the controller in plain PyTorch: h (B, D), and c or None. output: [h, r] (B, D + R W) before it."""
    reads = input_weight.shape[1] - x.shape[1]
    hidden, read = output.split([output.shape[1] - reads, reads], 1)
    gates = F.linear(torch.cat([x, read], 1), input_weight, bias)
    if cell is None:
        return torch.tanh(gates), None
    return controllers.lstm(gates + F.linear(hidden, recurrent_weight), cell)


def reference_loop(
    step: Callable[[int, Tensor, State], State],
    input: Tensor,
    state: State,
    start: tuple[Tensor | None, ...],
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, State]:
    """An episode in plain PyTorch: outputs (T, B, D + R W), and the state after it.

    step:  (t, x (B, F), state) -> state. A state is output, cell and the parts of the memory's state
    start: these parts where an episode starts anew, the first of them (N, W); [h, r] and c are 0 then
    """
    outputs = []
    for t, x in enumerate(input):
        before = state
        if reset is not None:
            anew = (torch.zeros_like(state[0]), None if state[1] is None else torch.zeros_like(state[1]), *start)
            before = tuple(_select(reset[t], a, b) for a, b in zip(anew, state, strict=True))
        if lengths is None:
            state = step(t, x, before)
            outputs.append(state[0])
        else:
            runs = t < lengths
            after = step(t, torch.where(runs.unsqueeze(1), x, 0), before)
            state = tuple(_select(runs, a, b) for a, b in zip(after, state, strict=True))
            outputs.append(torch.where(runs.unsqueeze(1), after[0], 0))
    return torch.stack(outputs), state


def _select(chosen: Tensor, x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """x (B, ...) or (...) in the episodes that are ``chosen`` (B), y (B, ...) in the others."""
    if x is None or y is None:
        return None
    return torch.where(chosen.view(-1, *[1] * (y.dim() - 1)), x, y)


def split_last(outputs: Tensor, output: Tensor, lengths: Tensor | None, read: Tensor) -> tuple[Tensor, Tensor]:
    """h (B, D) and r (B, R, W) of the last step of each episode; ``read`` has the sizes of r.

    outputs: (T, B, D + R W). output: (B, D + R W) before the first step, which an episode without steps keeps.
    They are copies: a view would keep the outputs of all steps in memory, and FSDP2 warns of views.
    """
    last = last_outputs(outputs, output, lengths)
    hidden, last_read = last.tensor_split([last.shape[1] - read.shape[1] * read.shape[2]], -1)
    return hidden.clone(), last_read.unflatten(-1, read.shape[1:]).clone()


def saved_shapes(
    input: Tensor,
    bias: Tensor,
    interface_bias: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    rows: int,
    save_for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Checkpoints, rows, gates, cells and interface vectors, as csrc/cpu allocates them.

    rows: padded rows of N numbers in a step: weights and, for the gradient, cosines and norms. Without
    ``save_for_backward`` there are those of the last step only.
    """
    T, B, _ = input.shape
    _, N, W = memory.shape
    every, block = checkpoint_every(T), native.block(memory.dtype)
    blocks, steps = (N + block - 1) // block, T if save_for_backward else 1
    return (
        memory.new_empty((1 + (T - 1) // every if save_for_backward else 0, B, blocks, W * block)),
        memory.new_empty((steps + 1, B, rows, blocks * block)),
        memory.new_empty((T if cell is not None and save_for_backward else 0, B, bias.shape[0])),
        memory.new_empty((0, B, bias.shape[0]) if cell is None else (steps, *cell.shape)),
        memory.new_empty((steps, B, interface_bias.shape[0])),
    )


def checkpoint_every(T: int) -> int:
    """Steps between two checkpoints of the memory: the square root of T, as csrc/cpu/checkpoints.h has it."""
    return torch.sym_max(1, math.ceil(torch.sym_sqrt(T)))  # T may be symbolic, under torch.compile


def last_cell(cell: Tensor | None, memory: Tensor, interface_weight: Tensor) -> Tensor:
    """c (B, D) after the last step, or its gradient; (0, D) for one tanh layer."""
    return memory.new_empty((0, interface_weight.shape[1]) if cell is None else cell.shape)


def last_outputs(outputs: Tensor, output: Tensor, lengths: Tensor | None) -> Tensor:
    """The output (B, D + R W) of the last step of each episode; ``output`` for an episode without steps."""
    if lengths is None:
        return outputs[-1]
    last = outputs[(lengths - 1).clamp(min=0), torch.arange(lengths.shape[0], device=lengths.device)]
    return torch.where(lengths.unsqueeze(1) > 0, last, output)


def initial_memory_gradient(memory: Tensor, reset: Tensor | None) -> Tensor:
    """The gradient (N, W) of the initial memory; (0, W) without resets."""
    return memory.new_empty((memory.shape[1] if reset is not None else 0, memory.shape[2]))


def controller_gradients(
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Tensor | None,
    memory: Tensor,
    needs_input_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first eight arguments; that of the input is (0, B, F) where it is not needed."""
    # gradients of weights in bfloat16 are float32
    weights = [memory.new_empty(x.shape) for x in (input_weight, recurrent_weight, interface_weight)]
    d_weights = empty_like(weights[0], weights[0][:, 0], *weights[1:], weights[2][:, 0], output)
    d_input = memory.new_empty((input.shape[0] if needs_input_grad else 0, *input.shape[1:]))
    return d_input, *d_weights, last_cell(cell, memory, interface_weight)
