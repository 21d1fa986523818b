"""A Triton driver for a GPU that is not there: Triton's runtime compiles a kernel, and the emulator runs its PTX.

Import it before any kernel is defined, in a process where Triton's interpreter is off.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from tests.ptx.build import CACHE

os.environ["TRITON_CACHE_DIR"] = str(CACHE / "triton")

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler.compiler import CompiledKernel
from triton.runtime import driver

from tests.ptx.instructions import Entry
from tests.ptx.machine import Buffer, Program, address
from tests.ptx.parse import Module
from tests.ptx.session import SESSION

SIZES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1, "u32": 4, "u64": 8}


class Compiled(NamedTuple):
    """A kernel as Triton compiled it, and the program that is run."""

    kernel: CompiledKernel
    program: Program


ENTRIES: dict[str, Entry] = {}  # by hash of the kernel, because to read its PTX takes longer than to run it
PROGRAMS: dict[tuple[str, bool], Compiled] = {}  # by hash of the kernel, and whether it is fused


class Driver(DriverBase):
    """Compiles for the GPU that is asked for. Its device numbers are those of the architectures."""

    def __init__(self) -> None:
        pass

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", SESSION.arch, 32)

    def get_current_device(self) -> int:
        return SESSION.arch

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_benchmarker(self) -> Any:
        raise NotImplementedError


def _program(kernel: CompiledKernel) -> Program:
    key = (kernel.hash, SESSION.fused)
    if key not in PROGRAMS:
        if kernel.hash not in ENTRIES:
            ENTRIES[kernel.hash] = Module(kernel.asm["ptx"]).entry(kernel.name)
        PROGRAMS[key] = Compiled(kernel, Program(ENTRIES[kernel.hash], SESSION.fused))
    return PROGRAMS[key].program


def _launcher(kernel: CompiledKernel) -> Any:
    """What Triton calls to launch a kernel: grid, stream, handles and hooks, then the kernel's arguments."""
    types = list(kernel.src.signature.values())

    def launch(x: int, y: int, z: int, *rest: Any) -> None:
        arguments = rest[len(rest) - len(types) :]
        program = _program(kernel)
        buffers: list[Buffer] = []
        words: list[tuple[int, int]] = []  # bytes and value of each parameter
        for type_, value in zip(types, arguments, strict=True):
            if isinstance(value, Tensor):
                if not value.is_contiguous() or value.data_ptr() % 16:
                    raise ValueError(f"{kernel.name}: got a tensor that is not contiguous or aligned to 16 bytes")
                words.append((8, address(len(buffers), value.data_ptr())))
                buffers.append(Buffer(value.data_ptr(), value.numel() * value.element_size(), value.element_size()))
            elif type_ != "constexpr":
                words.append((SIZES[type_], int(value) & (1 << 8 * SIZES[type_]) - 1))
        parameters = bytearray(program.entry.parameter_bytes)
        places = program.entry.parameters[: len(words)]  # the last two are Triton's own scratch memory
        for (at, size), (expected, word) in zip(places, words, strict=True):
            if size != expected:
                raise ValueError(f"{kernel.name}: a parameter has {size} bytes, need {expected}")
            parameters[at : at + size] = word.to_bytes(size, "little")
        shared, threads = kernel.metadata.shared, 32 * kernel.metadata.num_warps
        SESSION.launch(program, (x, y, z), threads, shared, bytes(parameters), buffers)

    return launch


def _init_handles(self: CompiledKernel) -> None:
    if self.module is None:
        self.module = self.function = object()
        self._run = _launcher(self)


_make_machine_code = CUDABackend.make_cubin


def assemble(kernel: CompiledKernel) -> bytes:
    """The machine code that NVIDIA's assembler makes of a kernel."""
    target = kernel.metadata.target
    return bytes(_make_machine_code(CUDABackend(target), kernel.asm["ptx"], {}, kernel.metadata, target.arch))


def _no_machine_code(self: CUDABackend, *_: Any) -> bytes:
    return b""  # the emulator runs PTX, and without its assembler Triton compiles twice as fast


def install() -> None:
    """From now on, Triton's kernels run in the emulator."""
    if knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET: got 1, need a process without Triton's interpreter")
    CompiledKernel._init_handles = _init_handles
    CUDABackend.make_cubin = _no_machine_code
    driver.set_active(Driver())


install()
