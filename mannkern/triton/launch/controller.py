"""How an episode's controller is launched, the same for every family; and what stands before and after the loop.

Nothing is allocated within the loop. On a GPU the whole loop is captured as a CUDA graph (mannkern/triton/graph.py).
The products of all steps stand outside it: PyTorch gives the library that computes them memory for each graph.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.memories.episode import join_recurrent, split_recurrent
from mannkern.triton import controller, phases
from mannkern.triton.graph import Operation, replay
from mannkern.triton.launch.common import Maybe, run
from mannkern.triton.launch.plan import Sizes, product

ANEW, ENDED = phases.ANEW.value, phases.ENDED.value


def run_episode(loop: Operation, states: int, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """An episode: the product of all inputs, then ``loop``.

    args: those of the operation, with ``states`` parts of the memory's state (:mod:`mannkern.memories.episode`). loop
    takes the gates (T, B, G) before their activation, without the recurrent product; then the arguments from the
    recurrent weight to the memory's state, the phases, the initial memory, and the options.
    """
    (input, input_weight, bias, recurrent_weight, *rest), (lengths, reset, initial_memory, *options) = (
        args[: 8 + states],
        args[8 + states :],
    )
    T, B, F = input.shape
    with _without_autocast(input.device.type):
        gates = torch.addmm(bias, _running(input, lengths).flatten(0, 1), input_weight[:, :F].t())
    recurrent_weight = join_recurrent(input_weight, recurrent_weight, F)
    tensors = (gates.unflatten(0, (T, B)), recurrent_weight, *rest, _phases(lengths, reset, T), initial_memory)
    return replay(loop, tensors, tuple(options))


def run_episode_backward(
    loop: Operation, grads: int, kept: int, options: int, args: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    """The gradients of an episode: ``loop``, then those of the weights and of the input as one product each.

    args: those of the backward operation, with so many gradients of results, parts of the memory's state, and options
    (:mod:`mannkern.memories.episode_function`). loop takes them without input, input's weight, lengths and resets, with
    the phases before the initial memory. It returns the gradients of the gates (T, B, G) and of the interface vectors
    (T, B, I), both before their activation, those of the state before the first step, and with resets that of each
    episode's initial memory (B, N, W). Their sum is taken here: PyTorch's sum may need scratch memory, which a graph
    would not keep.
    """
    (*front, lengths, reset, initial_memory), (*others, needs_input_grad) = (
        args[: -1 - options],
        args[-1 - options :],
    )
    input, input_weight, recurrent_weight, interface_weight, output = front[grads : grads + 5]
    outputs, phase, F = front[grads + 6 + kept], _phases(lengths, reset, len(input)), input.shape[2]
    joined = join_recurrent(input_weight, recurrent_weight, F)
    tensors = (*front[:grads], joined, *front[grads + 3 :], phase, initial_memory)
    d_gates, d_interface, *d_state, d_initial = replay(loop, tensors, tuple(others))
    D, first = interface_weight.shape[1], output.shape[1] - joined.shape[1]
    rows, vectors = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    first_reset, later_resets = (None, None) if reset is None else (reset[:1], reset[1:])
    with _without_autocast(input.device.type):
        d_recurrent = d_gates[0].t() @ _before(output[None, :, first:], first_reset)
        if len(d_gates) > 1:
            d_recurrent.addmm_(d_gates[1:].flatten(0, 1).t(), _before(outputs[:-1, :, first:], later_resets))
        d_weight = rows.t() @ _running(input, lengths).flatten(0, 1)
        d_weight, d_recurrent = split_recurrent(d_weight, d_recurrent, D - first)
        d_input = (
            (rows @ input_weight[:, :F]).view(input.shape) if needs_input_grad else input.new_empty(0, *input.shape[1:])
        )
        return (
            d_input, d_weight, rows.sum(0), d_recurrent,
            vectors.t() @ outputs[..., :D].flatten(0, 1), vectors.sum(0), *d_state,
            d_initial if initial_memory is None else d_initial.sum(0),
        )  # fmt: skip


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Matrix products in float32: a backward pass may be called under autocast."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _phases(lengths: Maybe, reset: Maybe, T: int) -> Maybe:
    """The phase (T, B), int32, of each step of an episode: ANEW, ENDED or 0; None without lengths and resets.

    It is contiguous, as the kernels read it, also where ``reset`` is the transpose of (B, T).
    """
    anew = None if reset is None else reset.contiguous().to(torch.int32) * ANEW
    if lengths is None:
        return anew
    ended = torch.arange(T, device=lengths.device).unsqueeze(1) >= lengths
    return torch.where(ended, ENDED, 0 if anew is None else anew).to(torch.int32)


def _running(input: Tensor, lengths: Maybe) -> Tensor:
    """The input (T, B, F) with zeros behind each episode's end, where padding may be NaN."""
    if lengths is None:
        return input
    return torch.where((torch.arange(len(input), device=lengths.device).unsqueeze(1) < lengths).unsqueeze(2), input, 0)


def _before(outputs: Tensor, reset: Maybe) -> Tensor:
    """The rows [h, r] before some steps, with zeros where an episode starts anew."""
    return (outputs if reset is None else torch.where(reset.unsqueeze(2), 0, outputs)).flatten(0, 1)


class Forward:
    """The controller and the interface's layer of each step, and the buffers that they write.

    outputs (T, B, O); interface (T, B, I), cells (T + 1, B, D), the first one that before the episode. Without
    ``save_for_backward`` one interface vector and two cells, which the steps share.
    """

    def __init__(
        self, s: Sizes, weights: list[Tensor], gates: Tensor, output: Tensor, cell: Maybe, phase: Maybe,
        activations: dict[str, int], save_for_backward: bool,
    ) -> None:  # fmt: skip
        """Weights: recurrent weight, interface's weight and bias. activations: see ``controller.interface_forward``."""
        empty = output.new_empty
        self.saves, self.gates, self.phase, self.output = save_for_backward, gates, phase, output
        self.sizes, self.weights = s, weights
        slots = s.T + 1 if save_for_backward else 2
        self.cells = empty(slots if s.lstm else 0, s.B, s.D)
        if cell is not None:
            self.cells[0] = cell
        self.outputs, self.interface = empty(s.T, s.B, s.O), empty(s.T if save_for_backward else 1, s.B, s.I)
        self.layer, self.heads = product(s.G, s.O - s.first, output), product(s.I, s.D, output)
        self.columns = {"I": s.I, **activations}

    def slots(self, t: int) -> Slots:
        """Where the numbers of step t are in buffers of T + 1, or two, states, and of T, or one, interface vectors."""
        return Slots(t, t + 1, t) if self.saves else Slots(t % 2, 1 - t % 2, 0)

    def step(self, t: int) -> None:
        """Two launches."""
        s, (recurrent_weight, interface_weight, interface_bias) = self.sizes, self.weights
        before, i_before = (self.outputs, t - 1) if t else (self.output, 0)
        slot, after, i_interface = self.slots(t)
        layout = {"D": s.D, "O": s.O}
        if s.lstm:
            run(
                controller.lstm_forward, self.layer.grid, self.layer.warps,
                before, recurrent_weight, self.gates, self.cells, self.outputs, self.phase,
                t, i_before, slot, after, s.B, **layout, **self.layer.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_forward, self.layer.grid, self.layer.warps,
                before, recurrent_weight, self.gates, self.outputs, self.phase,
                t, i_before, s.B, **layout, **self.layer.constants,
            )  # fmt: skip
        run(
            controller.interface_forward, self.heads.grid, self.heads.warps,
            self.outputs, interface_weight, interface_bias, self.interface,
            t, i_interface, s.B, **layout, **self.columns, **self.heads.constants,
        )  # fmt: skip

    def last_cell(self) -> Tensor:
        """c (B, D) after the last step; (0, D) of one tanh layer."""
        s = self.sizes
        return self.cells[self.slots(s.T - 1).after].clone() if s.lstm else self.outputs.new_empty(0, s.D)


class Slots(NamedTuple):
    """See ``Forward.slots``."""

    before: int
    after: int
    interface: int


class Backward:
    """The gradient of each step of the controller and the interface's layer, and the buffers that it writes.

    d_gates (T, B, G), d_interface (T, B, I), which the memory's step writes, d_output (B, O), of the output of the step
    before, and d_cell (B, D).
    """

    def __init__(
        self, s: Sizes, weights: list[Tensor], grad_outputs: Maybe, grad_cell: Maybe, output: Tensor, outputs: Tensor,
        gates: Tensor, cells: Tensor, phase: Maybe,
    ) -> None:  # fmt: skip
        """Weights: recurrent weight and interface's weight."""
        self.sizes, self.weights, self.grad_outputs, self.outputs = s, weights, grad_outputs, outputs
        self.gates, self.cells, self.phase = gates, cells, phase
        self.d_gates, self.d_interface = output.new_empty(s.T, s.B, s.G), output.new_empty(s.T, s.B, s.I)
        self.d_cell = start(grad_cell, output.new_empty(s.B if s.lstm else 0, s.D))
        self.d_output = torch.zeros_like(output)
        if grad_outputs is not None:
            self.d_output[:, s.first :] = grad_outputs[-1, :, s.first :]
        self.hidden = product(s.D, s.I, output, tf32_columns=16 if s.lstm else 32)
        self.recurrent = product(s.O - s.first, s.G, output)

    def step(self, t: int) -> None:
        """Two launches."""
        s, (recurrent_weight, interface_weight) = self.sizes, self.weights
        layout = {"D": s.D, "O": s.O, "I": s.I}
        if s.lstm:
            run(
                controller.lstm_backward, self.hidden.grid, self.hidden.warps,
                self.d_interface, interface_weight, self.d_output, self.gates, self.cells, self.d_cell, self.d_gates,
                self.phase, t, 0, s.B, **layout, **self.hidden.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_backward, self.hidden.grid, self.hidden.warps,
                self.d_interface, interface_weight, self.grad_outputs, self.outputs, self.d_gates,
                self.phase, t, t, s.B, **layout, **self.hidden.constants,
            )  # fmt: skip
        run(
            controller.output_backward, self.recurrent.grid, self.recurrent.warps,
            self.d_gates, recurrent_weight, self.grad_outputs, self.d_output, self.phase,
            t, s.B, G=s.G, O=s.O, FIRST=s.first, **self.recurrent.constants,
        )  # fmt: skip


def start(gradient: Maybe, like: Tensor) -> Tensor:
    """A buffer for a gradient that is updated in place: it begins as that after the last step, zero without one."""
    if gradient is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return gradient.clone(memory_format=torch.contiguous_format)


def first_weights(heads: int, memory: Tensor, initial_memory: Maybe) -> Maybe:
    """The weights (heads, N) that an episode starts anew from; None without resets."""
    if initial_memory is None:
        return None
    weights = memory.new_zeros(heads, memory.shape[1])
    weights[:, 0] = 1
    return weights
