"""The persistent kernels called with tensors, on a GPU or emulated: fills the structs of csrc/args/persistent.h."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from mannkern.memories.episode import pack_weights
from mannkern.memories.lrua.cell import MANNCell
from mannkern.memories.lrua.ops import episode_persistent
from mannkern.memories.lrua.reference import least_used_slots, lrua_step
from tests.cuda.emulated import library

EPISODES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {  # T, B, F, D, N, W, R; options of MANNCell
    "standard": ((3, 2, 7, 200, 128, 40, 4), {}),
    "two_clusters": ((4, 9, 5, 50, 33, 13, 3), {"key_strength": True, "least_used": "per_head", "num_least_used": 2}),
    "small": ((6, 2, 3, 9, 20, 3, 1), {}),
    "one_column": ((2, 1, 3, 9, 20, 1, 2), {"key_strength": True}),
}
Call = Callable[[ctypes.Array[ctypes.c_int64]], None]
NO_ENDS = (None, None, None)  # lengths, reset and initial memory, which the kernel does not take


def build() -> ctypes.CDLL:
    """The compiled emulate_persistent.cpp."""
    loaded = ctypes.CDLL(str(library("emulate_persistent.cpp")))
    loaded.persistent_shared_memory.restype = ctypes.c_int64
    return loaded


class Episode(NamedTuple):
    """The arguments of ``mann_episode`` but NO_ENDS, in its order."""

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
    """The results of ``mann_episode``, in its order."""

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


def fields(*values: int | Tensor | None) -> ctypes.Array[ctypes.c_int64]:
    """A struct's fields, which keep their tensors alive."""
    numbers = [0 if x is None else x if isinstance(x, int) else x.data_ptr() for x in values]
    array = (ctypes.c_int64 * len(numbers))(*numbers)
    array.tensors = values  # type: ignore[attr-defined]
    return array


def sizes(memory: Tensor, read_weights: Tensor, weight: Tensor, T: int, n: int, *options: Any) -> list[int]:
    """The fields of PersistentShape and LRUAOptions; weight: the interface's; options: every, per_head, decay."""
    (B, N, W), R, (rows, D), (every, per_head, decay) = memory.shape, read_weights.shape[1], weight.shape, options
    gamma = struct.unpack("q", struct.pack("d", decay))[0]
    return [T, B, D, N, W, R, int(rows == 2 * R * W + 2 * R), every, n, int(per_head), gamma]


def mann_persistent(call: Call, projection: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """The operation of that name, by a call of its kernel."""
    tensors, (n, per_head, decay, every, save) = [x.contiguous() for x in args[:8]], args[8:]
    results = _results(torch.ops.mannkern.mann_persistent, projection, *args)
    shape = sizes(tensors[5], tensors[6], tensors[1], len(projection), n, every, per_head, decay)
    call(fields(*shape, *tensors, projection, *results[:5], *(results[5:] if save else [None] * 6)))
    return tuple(results)


def mann_persistent_backward(call: Call, *args: Any) -> tuple[Tensor, ...]:
    """The operation of that name, by a call of its kernel."""
    tensors, (per_head, decay, every) = [None if x is None else x.contiguous() for x in args[:16]], args[16:]
    grads, (recurrent_weight, interface_weight, cell, memory, read_weights) = tensors[:5], tensors[5:10]
    checkpoints, rows, gates, cells, interface, least_used = tensors[10:]
    results = _results(torch.ops.mannkern.mann_persistent_backward, *args)
    n, episodes = least_used.shape[2], (memory.shape[0] + 7) // 8 * 8
    shape = sizes(memory, read_weights, interface_weight, len(gates), n, every, per_head, decay)
    saved = gates, checkpoints, rows, cells, interface, least_used
    scratch = memory.new_full((2 * every, episodes, 128 * 40), float("nan"))
    call(fields(*shape, recurrent_weight, interface_weight, cell, *saved, *grads, scratch, *results))
    return tuple(results)


def _results(operation: Any, *args: Any) -> list[Tensor]:
    """Tensors for an operation's results, which begin as NaN, so that a number that is not written shows."""
    meta = [x.to("meta") if isinstance(x, Tensor) else x for x in args]
    device = next(x.device for x in args if isinstance(x, Tensor))
    results = [torch.empty_like(x, device=device) for x in operation(*meta)]
    return [x.fill_(-1 if x.dtype == torch.int64 else float("nan")) for x in results]


@contextmanager
def kernels(forward: Call, backward: Call) -> Iterator[None]:
    """Makes the overload "persistent" of ``mann_episode`` use these calls."""
    kernels = {
        "mann_persistent": {"default": lambda *args: mann_persistent(forward, *args)},
        "mann_persistent_backward": {"default": lambda *args: mann_persistent_backward(backward, *args)},
    }
    with (
        mock.patch.multiple(episode_persistent, **kernels),
        mock.patch.dict(episode_persistent.mann_episode, persistent=episode_persistent.run_episode),
        mock.patch.dict(episode_persistent.mann_episode_backward, persistent=episode_persistent.run_episode_backward),
    ):
        yield


def forward(args: Episode, save_for_backward: bool = True) -> Results:
    return Results(*episode_persistent.run_episode(*args[:11], *NO_ENDS, *args[11:], save_for_backward))


def backward(args: Episode, results: Results, grads: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the first eleven arguments, from those of the first five results."""
    inputs = args.input, args.input_weight, args.recurrent_weight, args.interface_weight, *args[6:10]
    out = episode_persistent.run_episode_backward(
        *grads, *inputs, results.outputs, *results[5:], *NO_ENDS, args.per_head, args.decay, True
    )
    return list(out[:11])


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
        hidden, read = output.split([output.shape[1] - R * W, R * W], -1)
        gates = torch.cat([x, read], -1) @ input_weight.T + bias + hidden @ recurrent_weight.T
        i, f, g, o = gates.chunk(4, -1)
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


def reference_slots(args: Episode) -> Tensor:
    """The least used slots (T, B, n) of every step, in plain PyTorch."""
    slots = []
    for t in range(len(args.input)):
        usage = args.usage if t == 0 else reference(args._replace(input=args.input[:t]))[0][3]
        slots.append(least_used_slots(usage, args.num_least_used))
    return torch.stack(slots)


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
