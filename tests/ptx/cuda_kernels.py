"""Makes the NTM's operations run nvcc's PTX of csrc/cuda/ntm.cu in the emulator, on CPU tensors."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths

from mannkern.backends import cuda, reference
from mannkern.memories.ntm import functional
from mannkern.memories.ntm.ops import address as op_address
from mannkern.memories.ntm.ops import shift_sharpen as op_shift_sharpen
from mannkern.memories.ntm.ops import write as op_write
from setup import find_nvcc, nvcc_flags
from tests.cuda.emulated import EPISODE_OPERATIONS, EpisodeOperations, Operations, episodes
from tests.ptx.build import COMPILER, FOLDER, ROOT, cached
from tests.ptx.machine import Buffer, Program, address
from tests.ptx.parse import Module
from tests.ptx.session import SESSION

SOURCE, EPISODE_SOURCE = "ntm.cu", "ntm_episode.cu"
MANY_BLOCKS = 1 << 30
PAGE = 4096
OPERATIONS = (op_address, op_shift_sharpen, op_write)


def _sources() -> list[Path]:
    folders = ("args", "host", "cuda", "cpu/kernels")
    return [path for folder in folders for path in (ROOT / "csrc" / folder).iterdir() if path.suffix != ".cpp"]


@cache
def module(source: str, arch: int) -> Module:
    """The PTX of a file of csrc/cuda for a GPU."""
    return Module(_compiled(source, arch, "ptx").read_text())


def assemble(source: str, arch: int) -> bytes:
    """The machine code of a file of csrc/cuda for a GPU."""
    return _compiled(source, arch, "cubin").read_bytes()


def _compiled(source: str, arch: int, kind: str) -> Path:
    command = [
        *nvcc_flags(str(find_nvcc()), include_paths()),
        f"-arch=sm_{arch}",
        "-lineinfo",
        f"-{kind}",
        f"csrc/cuda/{source}",
    ]

    def compile_(path: Path) -> None:
        subprocess.run([*command, "-o", str(path)], cwd=ROOT, check=True)

    version = subprocess.run([command[0], "--version"], check=True, capture_output=True, text=True).stdout
    key = (*command, version, torch.__version__)
    return cached(f"{Path(source).stem}-sm_{arch}.{kind}", _sources(), compile_, *key)


@cache
def program(source: str, name: str, arch: int, fused: bool) -> Program:
    """A kernel of a file of csrc/cuda by its mangled name."""
    return Program(module(source, arch).entry(name), fused)


class Launch(ctypes.Structure):
    """As in recorder.h."""

    _fields_ = [
        ("kernel", ctypes.c_char * 256),
        *(
            (name, ctypes.c_int64)
            for name in ("blocks", "threads", "shared_bytes", "workspace_bytes", "parameter_bytes", "cluster")
        ),
        ("parameters", ctypes.c_ubyte * 1024),
    ]


@cache
def launches(name: str) -> ctypes.CDLL:
    """What notes the launches, such as launches.cpp, compiled."""
    source = FOLDER / name

    def compile_(path: Path) -> None:
        command = [str(COMPILER), "-std=c++17", "-O0", "-shared", "-fPIC", str(source), "-o", str(path)]
        subprocess.run(command, check=True)

    sources = [*_sources(), source, FOLDER / "recorder.h", *(ROOT / "tests" / "cuda").glob("*emula*.*")]
    return ctypes.CDLL(str(cached(f"{source.stem}.so", sources, compile_)))


class Emulated(EpisodeOperations):
    """The operations of torch.ops.mannkern, launched as csrc/cuda does it, in at most ``most_blocks``."""

    def __init__(self, most_blocks: int = MANY_BLOCKS) -> None:
        self._most_blocks = most_blocks

    def _write(self, name: str, count: int, sizes: Sequence[int], tensors: Sequence[Tensor | None]) -> None:
        if count == 0:
            return
        buffers: list[Buffer] = []
        at: dict[int, int] = {0: 0}  # addresses by pointer, because two arguments may be one tensor
        for x in tensors:
            if x is not None and x.data_ptr() not in at:
                at[x.data_ptr()] = address(len(buffers), x.data_ptr())
                buffers.append(Buffer(x.data_ptr(), _extent(x) * x.element_size(), x.element_size()))
        size = next(x.element_size() for x in tensors if x is not None)
        fields = [*sizes, *(0 if x is None else at[x.data_ptr()] for x in tensors)]
        launch, array = Launch(), (ctypes.c_int64 * len(fields))(*fields)
        workspace_at = ctypes.c_int64(address(len(buffers), 0))
        if not launches("launches.cpp").launch_of(
            name.encode(), size, ctypes.c_int64(count), array, workspace_at, ctypes.byref(launch)
        ):
            raise ValueError(f"name: got {name!r}, need an operation of the NTM")
        floats = next(x for x in tensors if x is not None)
        page = floats.new_full((launch.workspace_bytes // size + PAGE // size,), float("nan"))
        workspace = page[-page.data_ptr() % PAGE // size :]  # at the beginning of a page, as the launch has been told
        if launch.workspace_bytes:
            buffers.append(Buffer(workspace.data_ptr(), launch.workspace_bytes, size))
        parameters = bytes(launch.parameters)[: launch.parameter_bytes]
        source = EPISODE_SOURCE if name in EPISODE_OPERATIONS else SOURCE
        kernel = program(source, launch.kernel.decode(), SESSION.arch, SESSION.fused)
        grid = (min(launch.blocks, self._most_blocks), 1, 1)
        SESSION.launch(kernel, grid, launch.threads, launch.shared_bytes, parameters, buffers)


def _extent(x: Tensor) -> int:
    """The numbers from the first one of a tensor to its last one."""
    return 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0


@contextmanager
def emulated(most_blocks: int = MANY_BLOCKS) -> Iterator[None]:
    """The backend "cuda" runs in the emulator, beside the reference."""
    operations = Emulated(most_blocks)
    with ExitStack() as patches:
        for ops in OPERATIONS:
            for name in vars(Operations).keys() & vars(ops).keys():
                patches.enter_context(mock.patch.object(ops, name, {"default": getattr(operations, name)}))
        choose = {"reference": reference.BACKEND, "cuda": cuda.BACKEND}
        patches.enter_context(
            mock.patch.object(functional, "choose", lambda family, requested, *_, **__: choose[requested])
        )
        yield


@contextmanager
def emulated_episodes() -> Iterator[None]:
    """The memory's part of an NTM's episode runs in the emulator."""
    with episodes(Emulated()):
        yield
