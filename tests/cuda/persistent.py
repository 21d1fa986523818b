"""The persistent kernels called with tensors, on a GPU or emulated: fills the structs of csrc/args/persistent.h."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.memories.episode import checkpoint_every, pack_weights
from mannkern.memories.lrua.cell import MANNCell
from mannkern.memories.lrua.reference import lrua_step

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
    """A struct's fields, which keep their tensors alive."""
    numbers = [0 if x is None else x if isinstance(x, int) else x.data_ptr() for x in values]
    array = (ctypes.c_int64 * len(numbers))(*numbers)
    array.tensors = values  # type: ignore[attr-defined]
    return array


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


def backward(call: Call, args: Episode, saved: Results, grads: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the first eleven arguments, from those of the first five results."""
    T, B, _ = args.input.shape
    D, gate = args.cell.shape[1], args.bias

    def new(*shape: int) -> Tensor:
        return gate.new_full(shape, float("nan"))

    scratch = new(2 * checkpoint_every(T), (B + 7) // 8 * 8, 128 * 40)
    d_gates, d_interface = new(T, B, 4 * D), new(*saved.interface.shape)
    state = [new(*x.shape) for x in (args.output, args.cell, args.memory, args.read_weights, args.usage)]
    inputs = [x.contiguous() for x in (args.recurrent_weight, args.interface_weight, args.cell)]
    outgoing = [None if x is None else x.contiguous() for x in grads]
    of_forward = saved.gates, saved.checkpoints, saved.rows, saved.cells, saved.interface, saved.least_used
    call(fields(*sizes(args), *inputs, *of_forward, *outgoing, scratch, d_gates, d_interface, *state))
    before = torch.cat([args.output.unsqueeze(0), saved.outputs[:-1]]).flatten(0, 1)
    gates, interface = d_gates.flatten(0, 1), d_interface.flatten(0, 1)
    hidden = saved.outputs[..., :D].flatten(0, 1)
    weights = gates.T @ args.input.flatten(0, 1), gates.sum(0), gates.T @ before, interface.T @ hidden
    return [d_gates @ args.input_weight, *weights, interface.sum(0), *state]


def draw(
    T: int, B: int, F: int, D: int, N: int, W: int, R: int, seed: int = 0, device: str = "cpu", **options: Any
) -> Episode:
    """A float32 episode of a new MANN, with a random state before the first step."""
    torch.manual_seed(seed)
    cell = MANNCell(F, D, N, W, R, backend="reference", **options)
    weights = [x.detach() for x in pack_weights(cell)]
    memory, read_weights = 0.3 * torch.randn(B, N, W), torch.softmax(torch.randn(B, R, N), -1)
    state = 0.3 * torch.randn(B, D + R * W), 0.3 * torch.randn(B, D), memory, read_weights, torch.rand(B, N)
    tensors = [x.to(device) for x in (torch.randn(T, B, F), *weights, *state)]
    return Episode(*tensors, cell.num_least_used, cell.least_used == "per_head", cell.decay)


def reference(args: Episode) -> tuple[list[Tensor], Tensor]:
    """The first five results in plain PyTorch, and the smallest difference (B,) of usages that decided least used."""
    input, input_weight, bias, recurrent_weight, interface_weight, interface_bias, output, c, *memory = args[:11]
    R, W = args.read_weights.shape[1], args.memory.shape[2]
    outputs, gap = [], args.usage.new_full(args.usage.shape[:1], float("inf"))
    for x in input:
        i, f, g, o = (x @ input_weight.T + bias + output @ recurrent_weight.T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        parts = (h @ interface_weight.T + interface_bias).split(
            [R * W, R * W, R, len(interface_bias) - 2 * R * W - R], -1
        )
        key, add = parts[0].tanh().view(-1, R, W), parts[1].tanh().view(-1, R, W)
        b = 1 + torch.nn.functional.softplus(parts[3]) if parts[3].numel() else None
        lowest = memory[2].detach().sort(-1).values[:, : args.num_least_used + 1]
        gap = torch.minimum(gap, (lowest[:, 1:] - lowest[:, :-1]).amin(-1))
        M, r, w, u, _ = lrua_step(*memory, key, add, parts[2], b, args.num_least_used, args.per_head, args.decay)
        memory = [M, w, u]
        output = torch.cat([h, r.flatten(1)], -1)
        outputs.append(output)
    return [torch.stack(outputs), *memory, c], gap


def reference_gradients(args: Episode, grads: Sequence[Tensor | None]) -> list[Tensor]:
    """What ``backward`` gives, by autograd."""
    leaves = [x.detach().clone().requires_grad_() for x in args[:11]]
    results, _ = reference(args._replace(**dict(zip(Episode._fields, leaves))))
    pairs = [(x, g) for x, g in zip(results, grads) if g is not None]
    gradients = torch.autograd.grad([x for x, _ in pairs], leaves, [g for _, g in pairs], materialize_grads=True)
    return list(gradients)


def double(args: Episode) -> Episode:
    return Episode(*(x.double() for x in args[:11]), *args[11:])


def cotangents(results: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
    """Random gradients of the first five results."""
    generator = torch.Generator(results[0].device).manual_seed(seed)
    return [torch.empty_like(x, dtype=torch.float32).normal_(generator=generator) for x in results]


def relative(got: Tensor, right: Tensor) -> float:
    return float((got.double() - right).norm() / right.norm().clamp_min(1e-300))


def fits(got: Tensor, truth: Tensor, single: Tensor) -> bool:
    """The accuracy rule, against the float32 reference's result."""
    return relative(got, truth) <= 4 * relative(single, truth) + 1e-6
