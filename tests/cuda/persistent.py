"""The persistent kernels called with tensors, on a GPU or emulated: fills the structs of csrc/args/persistent.h."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every, pack_state, pack_weights
from mannkern.memories.lrua.cell import MANNState
from mannkern.memories.lrua.sequence import MANN

Call = Callable[[ctypes.Array[ctypes.c_int64]], None]


class Episode(NamedTuple):
    """The arguments of ``mann_episode``, in its order."""

    input: Tensor
    input_weight: Tensor
    bias: Tensor
    recurrent_weight: Tensor
    interface_weight: Tensor
    interface_bias: Tensor
    output: Tensor
    cell: Tensor
    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    num_least_used: int
    per_head: bool
    decay: float


class Results(NamedTuple):
    """The results of ``mann_episode`` in its order; memories are row-major (N, W), rows have no padding."""

    outputs: Tensor
    memory: Tensor
    read_weights: Tensor
    usage: Tensor
    cell: Tensor
    checkpoints: Tensor
    rows: Tensor
    gates: Tensor
    cells: Tensor
    interface: Tensor
    least_used: Tensor


def sizes(args: Episode) -> list[int]:
    """The fields of PersistentShape and LRUAOptions."""
    T, B, _ = args.input.shape
    D, (_, N, W), R = args.cell.shape[1], args.memory.shape, args.read_weights.shape[1]
    strengths = int(len(args.interface_bias) == 2 * R * W + 2 * R)
    decay = struct.unpack("q", struct.pack("d", args.decay))[0]
    return [T, B, D, N, W, R, strengths, checkpoint_every(T), args.num_least_used, int(args.per_head), decay]


def fields(*values: int | Tensor | None) -> ctypes.Array[ctypes.c_int64]:
    numbers = [0 if x is None else x if isinstance(x, int) else x.data_ptr() for x in values]
    return (ctypes.c_int64 * len(numbers))(*numbers)


def forward(call: Call, args: Episode, save_for_backward: bool = True) -> Results:
    """Runs the forward kernel. Results begin as NaN, so that a number that is not written shows."""
    T, B, _ = args.input.shape
    D, (_, N, W), R = args.cell.shape[1], args.memory.shape, args.read_weights.shape[1]

    def new(*shape: int) -> Tensor:
        return args.memory.new_full(shape, float("nan"))

    gates = (args.input.flatten(0, 1) @ args.input_weight.T + args.bias).view(T, B, 4 * D)
    last = new(B, N, W), new(B, R, N), new(B, N), new(B, D)
    outputs = new(T, B, D + R * W)
    saved: tuple[Tensor | None, ...] = (None,) * 5
    if save_for_backward:
        checkpoints = new(1 + (T - 1) // checkpoint_every(T), B, N, W)
        slots = torch.full((T, B, args.num_least_used), -1, dtype=torch.int64, device=args.memory.device)
        saved = checkpoints, new(T + 1, B, 2 * R + 1, N), new(T, B, D), new(T, B, len(args.interface_bias)), slots
    inputs = [x.contiguous() for x in args[3:11]]
    call(fields(*sizes(args), *inputs, gates, outputs, *last, *saved))
    memory, read_weights, usage, cell = last
    none = outputs.new_empty(0)
    checkpoints, rows, cells, interface, least_used = [none if x is None else x for x in saved]
    return Results(outputs, memory, read_weights, usage, cell, checkpoints, rows, gates, cells, interface, least_used)


def draw(
    T: int, B: int, F: int, D: int, N: int, W: int, R: int, seed: int = 0, device: str = "cpu", **options: Any
) -> tuple[MANN, Episode, MANNState]:
    """A float64 MANN on the reference, an episode in float32, and its first state in float64, of random numbers."""
    torch.manual_seed(seed)
    mann = MANN(F, D, N, W, R, backend="reference", **options)
    state = MANNState(
        (0.3 * torch.randn(B, D), 0.3 * torch.randn(B, D)),
        0.3 * torch.randn(B, N, W),
        torch.softmax(torch.randn(B, R, N), -1),
        torch.rand(B, N),
        0.3 * torch.randn(B, R, W),
    )
    input = torch.randn(T, B, F)
    mann, cell = mann.to(device), mann.cell
    state = MANNState(tuple(x.to(device) for x in state.controller), *(x.to(device) for x in state[1:]))
    packed = [x.detach() for x in (*pack_weights(cell), *pack_state(cell, state))]
    args = Episode(
        input.to(device), *packed, *state[1:4], cell.num_least_used, cell.least_used == "per_head", cell.decay
    )
    return mann.double(), args, converted(state, torch.float64)


def converted(state: MANNState, dtype: torch.dtype) -> MANNState:
    return MANNState(tuple(x.to(dtype) for x in state.controller), *(x.to(dtype) for x in state[1:]))


def gaps(mann: MANN, input: Tensor, state: MANNState) -> Tensor:
    """The smallest difference (B,) of usages that decides which slots are least used, over all steps but the last."""
    n, smallest = mann.cell.num_least_used, torch.full((input.shape[1],), float("inf"), device=input.device)
    for x in input:
        lowest = state.usage.sort(-1).values[:, : n + 1]
        smallest = torch.minimum(smallest.to(lowest.dtype), (lowest[:, 1:] - lowest[:, :-1]).amin(-1))
        _, state = mann.cell(x, state)
    return smallest
