"""Makes a MANN's episode run nvcc's PTX of csrc/cuda/mann.cu in the emulator, on CPU tensors."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager

from torch import Tensor

from tests.cuda import persistent
from tests.ptx.cuda_kernels import Launch, launches, program
from tests.ptx.machine import Buffer, address
from tests.ptx.session import SESSION

SOURCE = "mann.cu"


def _run(fields: ctypes.Array[ctypes.c_int64], backward: bool) -> None:
    """Launch a kernel with a struct of csrc/args/persistent.h, as persistent_launch.h does it."""
    values, buffers = list[int](), list[Buffer]()
    for x in fields.tensors:  # type: ignore[attr-defined]
        if isinstance(x, Tensor):
            values.append(address(len(buffers), x.data_ptr()))
            buffers.append(Buffer(x.data_ptr(), x.numel() * x.element_size(), x.element_size()))
        else:
            values.append(x or 0)
    launch, array = Launch(), (ctypes.c_int64 * len(values))(*values)
    launches("launches_persistent.cpp").launch_of(int(backward), array, ctypes.byref(launch))
    parameters = bytes(launch.parameters)[: launch.parameter_bytes]
    kernel = program(SOURCE, launch.kernel.decode(), SESSION.arch, SESSION.fused)
    grid, cluster = (launch.blocks, 1, 1), launch.cluster
    SESSION.launch(kernel, grid, launch.threads, launch.shared_bytes, parameters, buffers, cluster)


def emulated() -> AbstractContextManager[None]:
    """The overload "persistent" of ``mann_episode`` runs in the emulator."""
    return persistent.kernels(lambda fields: _run(fields, False), lambda fields: _run(fields, True))
