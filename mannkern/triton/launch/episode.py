"""Launchers of the operation ``mann_episode``, forward and backward: a loop of a few launches a step.

Nothing is allocated within the loop. On a GPU the whole loop is captured as a CUDA graph (mannkern/triton/graph.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every
from mannkern.triton import controller, episode
from mannkern.triton.graph import replay
from mannkern.triton.launch.common import Maybe, make_all_aligned, memory_constants, num_ranked_slots, run, triton_dtype
from mannkern.triton.tiling import SCAN_ELEMENTS_PER_THREAD, memory_blocks, power_of_two, product_blocks


def mann_episode(*args: Any) -> tuple[Tensor, ...]:
    """See ``mann_episode`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    with _without_autocast(args[0].device.type):
        return replay(_forward, args[:11], args[11:])


def mann_episode_backward(*args: Any) -> tuple[Tensor, ...]:
    """See ``mann_episode_backward`` of :mod:`mannkern.memories.lrua.ops.episode_recompute`."""
    with _without_autocast(args[5].device.type):
        return replay(_backward, args[:19], args[19:])


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Matrix products in float32: a backward pass may be called under autocast."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class _Sizes(NamedTuple):
    """Sizes of an episode, in the letters of :mod:`mannkern.triton.controller`."""

    T: int
    B: int
    D: int
    O: int
    I: int
    G: int
    N: int
    W: int
    R: int
    lstm: bool

    @property
    def strengths(self) -> bool:
        return 2 * self.R * (self.W + 1) == self.I

    @property
    def first(self) -> int:
        """The first column of [h, r] that the controller sees: a tanh layer does not see h."""
        return 0 if self.lstm else self.D


def _sizes(
    input: Tensor, input_weight: Tensor, interface_weight: Tensor, output: Tensor, cell: Maybe, memory: Tensor
) -> _Sizes:
    (T, B, _), (I, D), O, (_, N, W) = input.shape, interface_weight.shape, output.shape[1], memory.shape
    return _Sizes(T, B, D, O, I, input_weight.shape[0], N, W, (O - D) // W, cell is not None)


class _Product(NamedTuple):
    """How a kernel with a matrix product is launched."""

    grid: tuple[int, int]
    warps: int
    constants: dict[str, Any]


def _product(columns: int, K: int, memory: Tensor) -> _Product:
    """A product of K terms with ``columns`` columns. It takes TF32 only if the user allows it for products."""
    B, dtype = len(memory), memory.dtype
    blocks = product_blocks(B, K, dtype)
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
    sizes = {"BB": blocks.BB, "BO": blocks.BO, "S": blocks.S, "BK": blocks.BK}
    grid = (-(-columns // blocks.BO), -(-B // blocks.BB))
    constants = {"ACC": triton_dtype(dtype), "PRECISION": precision, "EARLY": starts_early(memory.device)}
    return _Product(grid, blocks.warps, sizes | constants)


def starts_early(device: torch.device) -> bool:
    """Whether a kernel may begin before the one before it ends: on NVIDIA's GPUs from sm_90 on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)


def _forward(
    input: Tensor,
    input_weight: Tensor,
    bias: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    interface_bias: Tensor,
    output: Tensor,
    cell: Maybe,
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    save_for_backward: bool,
) -> tuple[Tensor, ...]:
    s = _sizes(input, input_weight, interface_weight, output, cell, memory)
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    input, input_weight, recurrent_weight, interface_weight, interface_bias, output, memory, usage = make_all_aligned(
        input, input_weight, recurrent_weight, interface_weight, interface_bias, output, memory, usage
    )
    gates = torch.addmm(bias, input.flatten(0, 1), input_weight.t()).view(T, B, s.G)
    slots = T + 1 if save_for_backward else 2
    cells, weights = empty(slots if s.lstm else 0, B, s.D), empty(slots, B, s.R, s.N)
    if cell is not None:
        cells[0] = cell
    weights[0] = read_weights  # last: the first kernel reads what was written two kernels before (block_math.follow)
    steps = T if save_for_backward else 1
    outputs, interface = empty(T, B, s.O), empty(steps, B, s.I)
    marks = empty(steps if save_for_backward else 0, B, s.N, dtype=torch.int8)
    checkpoints = empty(-(-T // every) - 1 if save_for_backward else 0, B, s.N, s.W)
    last_memory, last_usage = torch.empty_like(memory), torch.empty_like(usage)
    p_saved = (marks, checkpoints) if save_for_backward else (None, None)

    layer = _product(s.G, s.O - s.first, memory)
    heads = _product(s.I, s.D, memory)
    layout = {"D": s.D, "O": s.O}
    columns = {"I": s.I, "TANH": 2 * s.R * s.W, "RAW": s.R}
    blocks = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD)
    step = _memory_constants(memory, s, num_least_used, per_head) | {"D": s.D, "DECAY": decay}
    for t in range(T):
        before, i_before = (outputs, t - 1) if t else (output, 0)
        slot, after, i_interface = (t, t + 1, t) if save_for_backward else (t % 2, 1 - t % 2, 0)
        if s.lstm:
            run(
                controller.lstm_forward, layer.grid, layer.warps,
                before, recurrent_weight, gates, cells, outputs,
                t, i_before, slot, after, B, **layout, **layer.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_forward, layer.grid, layer.warps,
                before, recurrent_weight, gates, outputs, t, i_before, B,
                **layout, **layer.constants,
            )  # fmt: skip
        run(
            controller.interface_forward, heads.grid, heads.warps,
            outputs, interface_weight, interface_bias, interface,
            t, i_interface, B, **layout, **columns, **heads.constants,
        )  # fmt: skip
        state = (last_memory, last_usage) if t else (memory, usage)
        i_checkpoint = t // every - 1 if t and t % every == 0 else -1
        run(
            episode.mann_step, (B,), blocks.warps, *state, last_memory, last_usage, interface, weights, outputs,
            *p_saved, t, slot, after, i_interface, i_checkpoint, B, **step,
        )  # fmt: skip
    last = T if save_for_backward else T % 2
    last_cell = cells[last].clone() if s.lstm else empty(0, s.D)
    results = outputs, last_memory, weights[last].clone(), last_usage, last_cell
    if save_for_backward:
        return *results, gates if s.lstm else gates[:0].clone(), cells, weights, interface, marks, checkpoints
    nothing = (x.new_empty(0, *x.shape[1:]) for x in (gates, cells, weights, interface))
    return *results, *nothing, marks, checkpoints


def _memory_constants(memory: Tensor, s: _Sizes, num_least_used: int, per_head: bool) -> dict[str, Any]:
    constants = memory_constants(memory, s.R, memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD))
    n = num_ranked_slots(num_least_used, per_head, s.R)
    return constants | {"STRENGTHS": s.strengths, "n": n, "PER_HEAD": per_head, "EARLY": starts_early(memory.device)}


def _backward(
    grad_outputs: Maybe,
    grad_memory: Maybe,
    grad_read_weights: Maybe,
    grad_usage: Maybe,
    grad_cell: Maybe,
    input: Tensor,
    input_weight: Tensor,
    recurrent_weight: Tensor,
    interface_weight: Tensor,
    output: Tensor,
    cell: Maybe,
    memory: Tensor,
    outputs: Tensor,
    gates: Tensor,
    cells: Tensor,
    weights: Tensor,
    interface: Tensor,
    marks: Tensor,
    checkpoints: Tensor,
    num_least_used: int,
    per_head: bool,
    decay: float,
    needs_input_grad: bool,
) -> tuple[Tensor, ...]:
    s = _sizes(input, input_weight, interface_weight, output, cell, memory)
    T, B, every, empty = s.T, s.B, checkpoint_every(s.T), memory.new_empty
    grad_outputs, input, input_weight, recurrent_weight, interface_weight, output, memory = make_all_aligned(
        grad_outputs, input, input_weight, recurrent_weight, interface_weight, output, memory
    )
    outputs, gates, cells, weights, interface, marks, checkpoints = make_all_aligned(
        outputs, gates, cells, weights, interface, marks, checkpoints
    )
    d_gates, d_interface = empty(T, B, s.G), empty(T, B, s.I)
    memories = empty(min(every, T), B, s.N, s.W)  # after each step from one checkpoint to the next

    hidden, recurrent = _product(s.D, s.I, memory), _product(s.O - s.first, s.G, memory)
    blocks = memory_blocks(s.N, s.W, memory.dtype, SCAN_ELEMENTS_PER_THREAD)
    write = _memory_constants(memory, s, num_least_used, per_head)
    step = write | {"D": s.D, "DECAY": decay, "BI": power_of_two(s.I)}
    layout = {"D": s.D, "O": s.O, "I": s.I}

    def recompute(begin: int) -> None:
        first, i_first = (checkpoints, begin // every - 1) if begin else (memory, 0)
        run(
            episode.mann_recompute, (B,), blocks.warps, first, interface, weights, marks, memories,
            i_first, begin, min(begin + every, T), B, **write,
        )  # fmt: skip

    recompute((T - 1) // every * every)
    d_memory, d_weights = _start(grad_memory, memory), _start(grad_read_weights, weights[0])
    d_usage, d_cell = _start(grad_usage, empty(B, s.N)), _start(grad_cell, empty(B if s.lstm else 0, s.D))
    d_output = torch.zeros_like(output)
    if grad_outputs is not None:
        d_output[:, s.first :] = grad_outputs[-1, :, s.first :]
    for t in reversed(range(T)):
        run(
            episode.mann_step_backward, (B,), blocks.warps, d_output, memories, interface, weights, marks,
            d_memory, d_weights, d_usage, d_interface, t, t % every, B, **step,
        )  # fmt: skip
        if t and t % every == 0:
            recompute(t - every)  # two kernels before it is read (block_math.follow)
        if s.lstm:
            run(
                controller.lstm_backward, hidden.grid, hidden.warps,
                d_interface, interface_weight, d_output, gates, cells, d_cell, d_gates, t, 0, B,
                **layout, **hidden.constants,
            )  # fmt: skip
        else:
            run(
                controller.layer_backward, hidden.grid, hidden.warps,
                d_interface, interface_weight, grad_outputs, outputs, d_gates, t, t, B, **layout, **hidden.constants,
            )  # fmt: skip
        run(
            controller.output_backward, recurrent.grid, recurrent.warps,
            d_gates, recurrent_weight, grad_outputs, d_output, t, B,
            G=s.G, O=s.O, FIRST=s.first, **recurrent.constants,
        )  # fmt: skip
    rows, vectors = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    d_recurrent = d_gates[0].t() @ output[:, s.first :]
    if T > 1:
        d_recurrent.addmm_(d_gates[1:].flatten(0, 1).t(), outputs[:-1, :, s.first :].flatten(0, 1))
    return (
        (rows @ input_weight).view(input.shape) if needs_input_grad else empty(0, *input.shape[1:]),
        rows.t() @ input.flatten(0, 1), rows.sum(0), d_recurrent,
        vectors.t() @ outputs[..., : s.D].flatten(0, 1), vectors.sum(0),
        d_output, d_cell, d_memory, d_weights, d_usage,
    )  # fmt: skip


def _start(gradient: Maybe, like: Tensor) -> Tensor:
    """A buffer for a gradient that is updated in place: it begins as that after the last step, zero without one."""
    if gradient is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return gradient.clone(memory_format=torch.contiguous_format)
