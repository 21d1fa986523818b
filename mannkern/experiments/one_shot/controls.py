"""What an experiment changes of a core: reads that stay hidden, and initial weights and key strengths."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mannkern.memories.cell import MemoryCell


def hide_reads(core: nn.Module) -> None:
    """Keep the controller of a core with a memory from seeing what was read: its weights for reads stay 0."""
    for weight, seen in _input_weights(core):
        with torch.no_grad():
            weight[:, seen:] = 0
        inputs = torch.zeros_like(weight)
        inputs[:, :seen] = 1
        weight.register_hook(lambda gradient, inputs=inputs: gradient * inputs.to(gradient.device))


def scale_inputs(core: nn.Module, gain: float) -> None:
    """Multiply the initial weights of the controller of a core with a memory for its inputs, but not those for reads.

    torch.nn.LSTMCell draws all weights alike, within 1 / sqrt(D), for inputs that are mostly 0 as for others.
    """
    for weight, seen in _input_weights(core):
        with torch.no_grad():
            weight[:, :seen] *= gain


def _input_weights(core: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """The weights (G, F + R W) of the controller's inputs and F; none of a core without a memory."""
    cell = getattr(core, "cell", None)
    if isinstance(cell, MemoryCell):
        name = "weight_ih" if isinstance(cell.controller, nn.LSTMCell) else "linear.weight"
        yield cell.controller.get_parameter(name), cell.input_size


def start_strengths(core: nn.Module, strength: float) -> None:
    """Let the keys of a MANN with ``key_strength`` start with this strength, above 1, as far as their bias says.

    With the usual bias of 0 it is 1 + ln 2 = 1.7: a slot that equals the key gets at most e^1.7 = 5 times the weight of
    one that is unlike it, so that a read is nearly the mean of 128 slots.
    """
    bias = core.get_parameter("cell.interface.bias")
    with torch.no_grad():
        bias[-int(core.cell.num_reads) :] = math.log(math.expm1(strength - 1))  # type: ignore[union-attr, arg-type]
