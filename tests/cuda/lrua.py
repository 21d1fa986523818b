"""The CUDA kernels of LRUA's step and scan as operations on CPU tensors: compiled for the CPU and run by emulator.h."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mannkern.backends import cuda, reference
from mannkern.memories.episode import checkpoint_every
from mannkern.memories.lrua import functional
from mannkern.memories.lrua.ops import scan, step
from tests.cuda.emulated import library

KERNELS = {step: ("default", "lrua_step"), scan: ("cosines", "lrua_scan")}  # module: overload and operation


def build() -> ctypes.CDLL:
    """The compiled emulate_lrua.cpp."""
    return ctypes.CDLL(str(library("emulate_lrua.cpp")))


def aligned(x: Tensor | None) -> Tensor | None:
    """A copy whose numbers begin at a multiple of 64 bytes, as the host file makes them begin at one of 16."""
    if x is None or x.dtype != torch.float32:
        return x if x is None else x.contiguous()
    buffer = torch.empty(x.numel() + 16)
    begin = -buffer.data_ptr() // 4 % 16
    return buffer[begin : begin + x.numel()].view(x.shape).copy_(x)


def bits(option: float) -> int:
    """An option as a field of a struct: an integer, or the bits of a float."""
    return int(option) if isinstance(option, int) else int(struct.unpack("q", struct.pack("d", option))[0])


Options = tuple[int | float, ...]  # of a struct: n, per_head, decay; of a scan also B, T and checkpoint_every


def filled(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """An aligned tensor in which a number that is not written shows."""
    x = (
        aligned(torch.full(tuple(shape), float("nan")))
        if dtype == torch.float32
        else torch.full(shape, -77, dtype=dtype)
    )
    assert x is not None
    return x


@contextmanager
def replaced(operations: Operations) -> Iterator[None]:
    """Makes the Functions of step and scan on the backend "cuda" call ``operations``, beside the reference."""
    backends = {"reference": reference.BACKEND, "cuda": cuda.BACKEND}
    with ExitStack() as patches:
        for module, (overload, name) in KERNELS.items():
            for each in (name, f"{name}_backward"):
                patches.enter_context(mock.patch.object(module, each, {overload: getattr(operations, each)}))
        choose = mock.patch.object(functional, "choose", lambda family, requested, *_, **__: backends[requested])
        patches.enter_context(choose)
        yield


class Operations:
    """Stands in for LRUA's operations on a GPU; ``backwards`` runs the threads in reverse."""

    def __init__(self, library: ctypes.CDLL, backwards: bool = False) -> None:
        self._library, self._backwards = library, int(backwards)

    def _run(
        self,
        name: str,
        sizes: tuple[int, ...],
        options: Options,
        inputs: tuple[Tensor | None, ...],
        outputs: tuple[Tensor | None, ...],
    ) -> None:
        """Runs an operation with its struct of csrc/args/lrua.h: sizes, inputs and outputs."""
        held = [aligned(x) for x in inputs]
        pointers = [0 if x is None else x.data_ptr() for x in (*held, *outputs)]
        fields = [*sizes[1:], *map(bits, options), *pointers]
        array = (ctypes.c_int64 * len(fields))(*fields)
        getattr(self._library, name)(ctypes.c_int64(sizes[0]), array, self._backwards)

    def lrua_step(
        self,
        memory: Tensor,
        read_weights: Tensor,
        usage: Tensor,
        key: Tensor,
        add: Tensor,
        gate: Tensor,
        strength: Tensor | None,
        num_least_used: int,
        per_head: bool,
        decay: float,
    ) -> tuple[Tensor, ...]:
        B, N, W = memory.shape
        shapes = (memory.shape, key.shape, read_weights.shape, usage.shape, *[read_weights.shape] * 2, usage.shape)
        outputs = tuple(map(filled, shapes))
        slots = torch.full((B, num_least_used), -1)
        inputs = (memory, read_weights, usage, key, add, gate, strength)
        options = num_least_used, per_head, decay
        self._run("lrua_step", (B, N, W, key.shape[1]), options, inputs, (*outputs, slots))
        return *outputs, slots

    def lrua_step_backward(self, *args: Tensor | None) -> tuple[Tensor, ...]:
        """The arguments of ``lrua_step_backward.default``, in its order."""
        *inputs, per_head, decay = args
        previous, key, add, gate, strength, memory, *_, norm, slots = inputs[5:]
        assert memory is not None
        assert key is not None
        assert slots is not None
        shaped = (memory, previous, norm, key, add, gate, gate if strength is not None else gate[:, :0])
        outputs = [filled(x.shape) for x in shaped]
        written = (*outputs[:6], outputs[6] if strength is not None else None)
        options = slots.shape[1], per_head, decay
        self._run("lrua_step_backward", (*memory.shape, key.shape[1]), options, tuple(inputs), written)
        return tuple(outputs)

    def lrua_scan(self, *args: Any) -> tuple[Tensor, ...]:
        """The arguments of ``lrua_scan.cosines``, in its order."""
        *inputs, n, per_head, decay, _ = args
        results = like_the_fake(torch.ops.mannkern.lrua_scan.cosines, args)
        saved = results[4:] if args[-1] else [None] * 3
        memory, keys = inputs[0], inputs[3]
        self._run("lrua_scan", *scan_sizes(memory, keys, n, per_head, decay), tuple(inputs), (*results[:4], *saved))
        return tuple(results)

    def lrua_scan_backward(self, *args: Any) -> tuple[Tensor, ...]:
        """The arguments of ``lrua_scan_backward.cosines``, in its order."""
        *inputs, n, per_head, decay = args
        results = like_the_fake(torch.ops.mannkern.lrua_scan_backward.cosines, args)
        memory, keys, strengths = inputs[4], inputs[6], inputs[9]
        written = (*results[:6], None if strengths is None else results[6])
        sizes = scan_sizes(memory, keys, n, per_head, decay)
        self._run("lrua_scan_backward", *sizes, tuple(inputs), written)
        return tuple(results)


def scan_sizes(memory: Tensor, keys: Tensor, n: int, per_head: bool, decay: float) -> tuple[tuple[int, ...], Options]:
    """Sizes and options of a scan's struct."""
    (B, N, W), (T, _, R, _) = memory.shape, keys.shape
    return (B, N, W, R), (n, per_head, decay, B, T, checkpoint_every(T))


def like_the_fake(operation: Any, args: Sequence[Any]) -> list[Tensor]:
    """Tensors for the results of an operation, of the shapes and types that torch.compile is told."""
    meta = [x.to("meta") if isinstance(x, Tensor) else x for x in args]
    return [filled(x.shape, x.dtype) for x in operation(*meta)]
