"""Makes LRUA's step and scan run nvcc's PTX of csrc/cuda in the emulator, on CPU tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tests.cuda import lrua
from tests.ptx.cuda_kernels import PAGE, Launch, launches, program
from tests.ptx.machine import Buffer, Program, address
from tests.ptx.session import SESSION

SOURCES = {"lrua_step": "lrua.cu", "lrua_scan": "lrua_scan.cu"}
PROGRAMS: dict[str, Program] = {}  # those that were launched, by operation
AT_ONCE = 4 * 132  # blocks of a scan's backward pass on an H100


def source_of(operation: str) -> str:
    """The file of csrc/cuda with its kernels."""
    return SOURCES[operation.removesuffix("_backward")]


class Emulated(lrua.Operations):
    """The operations of torch.ops.mannkern, launched as csrc/cuda/lrua_launch.h does it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once

    def _run(
        self,
        name: str,
        sizes: tuple[int, ...],
        options: lrua.Options,
        inputs: tuple[Tensor | None, ...],
        outputs: tuple[Tensor | None, ...],
    ) -> None:
        if sizes[0] == 0:
            return
        fields = [*sizes[1:], *map(lrua.bits, options)]
        held, buffers = [lrua.aligned(x) for x in inputs], list[Buffer]()
        for x in (*held, *outputs):
            fields.append(0 if x is None else address(len(buffers), x.data_ptr()))
            if x is not None:
                buffers.append(Buffer(x.data_ptr(), x.numel() * x.element_size(), x.element_size()))
        launch, array = Launch(), (ctypes.c_int64 * len(fields))(*fields)
        B, workspace_at, at_once = map(ctypes.c_int64, (sizes[0], address(len(buffers), 0), self._at_once))
        known = launches("launches_lrua.cpp").launch_of(
            name.encode(), B, array, workspace_at, at_once, ctypes.byref(launch)
        )
        if not known:
            raise ValueError(f"name: got {name!r}, need an operation of LRUA with CUDA kernels")
        page = torch.full((launch.workspace_bytes // 4 + PAGE // 4,), float("nan"))
        workspace = page[-page.data_ptr() % PAGE // 4 :]  # at the beginning of a page, as the launch has been told
        if launch.workspace_bytes:
            buffers.append(Buffer(workspace.data_ptr(), launch.workspace_bytes, 4))
        parameters = bytes(launch.parameters)[: launch.parameter_bytes]
        PROGRAMS[name] = kernel = program(source_of(name), launch.kernel.decode(), SESSION.arch, SESSION.fused)
        SESSION.launch(kernel, (launch.blocks, 1, 1), launch.threads, launch.shared_bytes, parameters, buffers)


@contextmanager
def emulated(at_once: int = AT_ONCE) -> Iterator[None]:
    """The backend "cuda" runs in the emulator, beside the reference."""
    with lrua.replaced(Emulated(at_once)):
        yield
