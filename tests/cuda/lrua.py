"""The CUDA kernels of LRUA's step as operations on CPU tensors: compiled for the CPU and run by emulator.h."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from tests.cuda.emulated import COMPILER


def build(folder: Path) -> ctypes.CDLL:
    """Compiles emulate_lrua.cpp in ``folder``."""
    library = folder / "emulated_lrua.so"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    source = str(Path(__file__).with_name("emulate_lrua.cpp"))
    subprocess.run([str(COMPILER), *flags, source, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def aligned(x: Tensor | None) -> Tensor | None:
    """A copy whose numbers begin at a multiple of 64 bytes, as the host file makes them begin at one of 16."""
    if x is None or x.dtype != torch.float32:
        return x if x is None else x.contiguous()
    buffer = torch.empty(x.numel() + 16)
    begin = -buffer.data_ptr() // 4 % 16
    return buffer[begin : begin + x.numel()].view(x.shape).copy_(x)


class Operations:
    """Stands in for ``lrua_step`` and ``lrua_step_backward``; ``backwards`` runs the threads in reverse."""

    def __init__(self, library: ctypes.CDLL, backwards: bool = False) -> None:
        self._library, self._backwards = library, int(backwards)

    def _run(
        self,
        name: str,
        sizes: tuple[int, ...],
        options: tuple[int, bool, float],
        inputs: tuple[Tensor | None, ...],
        outputs: tuple[Tensor | None, ...],
    ) -> None:
        """Runs an operation with its struct of csrc/args/lrua.h: sizes, inputs and outputs."""
        n, per_head, decay = options
        held = [aligned(x) for x in inputs]
        pointers = [0 if x is None else x.data_ptr() for x in (*held, *outputs)]
        fields = [*sizes[1:], n, int(per_head), struct.unpack("q", struct.pack("d", decay))[0], *pointers]
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
        outputs = tuple(aligned(torch.full(shape, float("nan"))) for shape in shapes)
        slots = torch.full((B, num_least_used), -1)
        inputs = (memory, read_weights, usage, key, add, gate, strength)
        options = num_least_used, per_head, decay
        self._run("lrua_step", (B, N, W, key.shape[1]), options, inputs, (*outputs, slots))
        return (*(x for x in outputs if x is not None), slots)

    def lrua_step_backward(self, *args: Tensor | None) -> tuple[Tensor, ...]:
        """The arguments of ``lrua_step_backward.default``, in its order."""
        *inputs, per_head, decay = args
        previous, key, add, gate, strength, memory, *_, norm, slots = inputs[5:]
        assert memory is not None
        assert key is not None
        assert slots is not None
        shaped = (memory, previous, norm, key, add, gate, gate if strength is not None else gate[:, :0])
        outputs = [aligned(torch.full(x.shape, float("nan"))) for x in shaped]
        written = (*outputs[:6], outputs[6] if strength is not None else None)
        options = slots.shape[1], per_head, decay
        self._run("lrua_step_backward", (*memory.shape, key.shape[1]), options, tuple(inputs), written)
        return tuple(outputs)
