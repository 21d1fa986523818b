"""The CUDA kernels of the NTM as operations on CPU tensors: compiled for the CPU and run by emulator.h."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mannkern import NTMCell
from mannkern.backends import cuda
from mannkern.memories.ntm.ops import step
from tests.ptx.build import COMPILER, ROOT, cached

EPISODE_OPERATIONS = ("ntm_step", "ntm_step_backward", "ntm_recompute")
HAS_COMPILER = COMPILER is not None and sys.platform == "linux"


def library(source: str = "emulate.cpp") -> Path:
    """The compiled ``source`` of this folder, kept beside the emulator of PTX until a source or a header changes."""
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]

    def make(path: Path) -> None:
        subprocess.run([str(COMPILER), *flags, str(Path(__file__).with_name(source)), "-o", str(path)], check=True)

    folders = (ROOT / "csrc" / name for name in ("args", "cuda", "cpu/kernels"))
    sources = [path for folder in (*folders, Path(__file__).parent) for path in folder.glob("*.[hc]*")]
    return cached(f"{Path(source).stem}.so", sources, make, *flags)


def shared_memory(library: Path, operation: str, dtype: torch.dtype, *sizes: int) -> int:
    """Bytes of shared memory that a block of the operation gets, at the sizes that its struct begins with."""
    count = ctypes.CDLL(str(library)).shared_memory
    count.restype = ctypes.c_int64
    fields = (ctypes.c_int64 * 32)(*sizes)
    return int(count(operation.encode(), dtype.itemsize, fields))


class Operations:
    """Stands in for torch.ops.mannkern. A launch has at most ``most_blocks``; ``backwards`` runs threads in reverse."""

    def __init__(self, library: Path, most_blocks: int = 1 << 30, backwards: bool = False) -> None:
        self._emulate = ctypes.CDLL(str(library)).emulate
        self._options = (most_blocks, int(backwards))

    def _write(self, name: str, count: int, sizes: Sequence[int], tensors: Sequence[Tensor | None]) -> None:
        """Runs an operation with its struct: sizes, then contiguous tensors, some of which it writes."""
        fields = [*sizes, *(0 if x is None else x.data_ptr() for x in tensors)]
        size = next(x.element_size() for x in tensors if x is not None)
        array = (ctypes.c_int64 * len(fields))(*fields)
        assert self._emulate(name.encode(), size, ctypes.c_int64(count), array, *self._options)

    def _run(
        self, name: str, count: int, sizes: Sequence[int], inputs: Sequence[Tensor], *shapes: torch.Size
    ) -> list[Tensor]:
        """Runs an operation with its struct of csrc/args/ntm.h: sizes, inputs, and outputs that begin as NaN."""
        inputs = [x.contiguous() for x in inputs]
        outputs = [inputs[0].new_full(shape, float("nan")) for shape in shapes]
        self._write(name, count, sizes, [*inputs, *outputs])
        return outputs

    def shift_sharpen(self, weights: Tensor, shift: Tensor, sharpness: Tensor) -> Tensor:
        B, H, N = weights.shape
        return self._run("shift_sharpen", B * H, (N, shift.shape[2]), (weights, shift, sharpness), weights.shape)[0]

    def shift_sharpen_backward(
        self, grad: Tensor, weights: Tensor, shift: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        B, H, N = weights.shape
        inputs = (grad, weights, shift, *others)
        shapes = (weights.shape, shift.shape, shift.shape[:2])
        return tuple(self._run("shift_sharpen_backward", B * H, (N, shift.shape[2]), inputs, *shapes))

    def ntm_address(self, memory: Tensor, previous: Tensor, key: Tensor, *scalars: Tensor) -> tuple[Tensor, ...]:
        sizes = (*memory.shape[1:], key.shape[1], scalars[2].shape[2])
        shapes = (*[previous.shape] * 3, memory.shape[:2])
        return tuple(self._run("ntm_address", len(memory), sizes, (memory, previous, key, *scalars), *shapes))

    def ntm_address_backward(
        self, grad: Tensor, memory: Tensor, previous: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        key, shift = others[0], others[3]
        sizes = (*memory.shape[1:], key.shape[1], shift.shape[2])
        shapes = [x.shape for x in (memory, previous, *others[:5])]
        return tuple(self._run("ntm_address_backward", len(memory), sizes, (grad, memory, previous, *others), *shapes))

    def ntm_write(self, memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
        sizes = (*memory.shape[1:], weights.shape[1], 1)
        return self._run("ntm_write", len(memory), sizes, (memory, weights, erase, add), memory.shape)[0]

    def ntm_write_backward(self, grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        sizes = (*grad.shape[1:], inputs[1].shape[1], 1)
        return tuple(self._run("ntm_write_backward", len(grad), sizes, (grad, *inputs), *(x.shape for x in inputs)))


class EpisodeOperations(Operations):
    """The memory's part of an NTM's episode, whose operations write tensors in place."""

    def ntm_step(
        self,
        memory: Tensor,
        previous: Tensor,
        phase: Tensor | None,
        first_memory: Tensor | None,
        first_weights: Tensor | None,
        interface: Tensor,
        memory_out: Tensor,
        weights: Tensor,
        rows: Tensor,
        output: Tensor,
        V: int,
        S: int,
    ) -> None:
        inputs = memory, previous, phase, first_memory, first_weights
        results = interface, memory_out, weights, rows, _reads(output, memory, previous, V)
        sizes = (*_sizes(memory, previous, V, S), output.shape[1])
        self._write("ntm_step", len(memory), sizes, [*inputs, *results])

    def ntm_step_backward(self, grad_output: Tensor, memory: Tensor, memory_out: Tensor, *args: Any) -> None:
        *tensors, V, S = args
        previous = tensors[0]
        sizes = (*_sizes(memory, previous, V, S), grad_output.shape[1])
        first = _reads(grad_output, memory, previous, V), memory, memory_out
        self._write("ntm_step_backward", len(memory), sizes, [*first, *tensors])

    def ntm_recompute(self, memory: Tensor, interface: Tensor, weights: Tensor, *args: Any) -> None:
        *tensors, V, S = args
        sizes = (*_sizes(memory, weights[0], V, S), len(weights))
        self._write("ntm_recompute", len(memory), sizes, [memory, interface, weights, *tensors])


def _sizes(memory: Tensor, weights: Tensor, V: int, S: int) -> tuple[int, ...]:
    """The numbers of an NTMInterface."""
    return (*memory.shape[1:], weights.shape[1], S, V)


def _reads(output: Tensor, memory: Tensor, weights: Tensor, V: int) -> Tensor:
    """The columns of the read vectors, in place."""
    return output[:, output.shape[1] - (weights.shape[1] - V) * memory.shape[2] :]


@contextmanager
def episodes(operations: Operations) -> Iterator[None]:
    """NTM's episodes on CPU tensors are one operation, whose memory is in ``operations``."""
    on_a_gpu = lambda cell, device: cuda.BACKEND.episodes["ntm"] if cell.backend == "cuda" else None  # noqa: E731
    with ExitStack() as patches:
        for name in EPISODE_OPERATIONS:
            patches.enter_context(mock.patch.dict(getattr(step, name), default=getattr(operations, name)))
        patches.enter_context(mock.patch.object(NTMCell, "episode_on", on_a_gpu))
        yield
