"""Makes LRUA's step run nvcc's PTX of csrc/cuda/lrua.cu in the emulator, on CPU tensors."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from torch import Tensor

from mannkern.backends import cuda, reference
from mannkern.memories.lrua import functional
from mannkern.memories.lrua.ops import step
from tests.cuda import lrua
from tests.ptx.cuda_kernels import Launch, launches, program
from tests.ptx.machine import Buffer, address
from tests.ptx.session import SESSION

SOURCE = "lrua.cu"


class Emulated(lrua.Operations):
    """The operations of torch.ops.mannkern, launched as csrc/cuda/lrua_launch.h does it."""

    def __init__(self) -> None:
        pass

    def _run(
        self,
        name: str,
        sizes: tuple[int, ...],
        options: tuple[int, bool, float],
        inputs: tuple[Tensor | None, ...],
        outputs: tuple[Tensor | None, ...],
    ) -> None:
        n, per_head, decay = options
        fields = [*sizes[1:], n, int(per_head), struct.unpack("q", struct.pack("d", decay))[0]]
        held, buffers = [lrua.aligned(x) for x in inputs], list[Buffer]()
        for x in (*held, *outputs):
            fields.append(0 if x is None else address(len(buffers), x.data_ptr()))
            if x is not None:
                buffers.append(Buffer(x.data_ptr(), x.numel() * x.element_size(), x.element_size()))
        launch, array = Launch(), (ctypes.c_int64 * len(fields))(*fields)
        backward, B = int(name == "lrua_step_backward"), ctypes.c_int64(sizes[0])
        launches("launches_lrua.cpp").launch_of(backward, B, array, ctypes.byref(launch))
        parameters = bytes(launch.parameters)[: launch.parameter_bytes]
        kernel = program(SOURCE, launch.kernel.decode(), SESSION.arch, SESSION.fused)
        SESSION.launch(kernel, (launch.blocks, 1, 1), launch.threads, launch.shared_bytes, parameters, buffers)


@contextmanager
def emulated() -> Iterator[None]:
    """The backend "cuda" runs in the emulator, beside the reference."""
    operations, choose = Emulated(), {"reference": reference.BACKEND, "cuda": cuda.BACKEND}
    with ExitStack() as patches:
        for name in ("lrua_step", "lrua_step_backward"):
            patches.enter_context(mock.patch.object(step, name, {"default": getattr(operations, name)}))
        patches.enter_context(
            mock.patch.object(functional, "choose", lambda family, requested, *_, **__: choose[requested])
        )
        yield
