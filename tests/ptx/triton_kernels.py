"""Makes the project's own launchers run the compiled Triton kernels in the emulator, on CPU tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from tests.ptx import triton_driver  # before the kernels are imported  # noqa: F401  # isort: skip

import torch
from torch import Tensor

from mannkern.backends import BACKENDS
from mannkern.memories.checks import compute_dtype
from mannkern.triton import tiling
from mannkern.triton.launch import common, least_used, scan, step, write_usage

LAUNCHERS = (common, least_used, scan, step, write_usage)
H100_PROGRAMS = 2 * 132  # of a scan's backward pass


def _empty_gradient(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _empty_tile_gradients(x: Tensor, tiles: int) -> Tensor:
    return x.new_empty((x.shape[0], tiles, *x.shape[1:]), dtype=compute_dtype(x) if tiles > 1 else x.dtype)


def _filled(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def empty(*args: Any, **options: Any) -> Tensor:
        x = make(*args, **options)
        return x.fill_(float("nan") if x.is_floating_point() else -77)

    return empty


@contextmanager
def as_on_a_gpu(scan_programs: int = H100_PROGRAMS, tf32: bool = False) -> Iterator[None]:
    """The launchers treat CPU tensors as they do those of a GPU, and fresh memory is NaN, or -77.

    tf32: the user allows TF32 for products

    In three places they ask for the device: which backends run on it, because Triton's interpreter rounds otherwise,
    and for the number of programs that it runs at once.
    """
    triton = BACKENDS["triton"]._replace(why_not=lambda device_type, sizes: tiling.unsupported(*sizes[:3]))
    replaced = {
        "empty_gradient": _empty_gradient,
        "empty_tile_gradients": _empty_tile_gradients,
        "scan_programs": lambda device: scan_programs,
    }
    with ExitStack() as patches:
        if tf32:
            patches.callback(setattr, torch.backends.cuda.matmul, "allow_tf32", torch.backends.cuda.matmul.allow_tf32)
            torch.backends.cuda.matmul.allow_tf32 = True
        patches.enter_context(mock.patch.dict(BACKENDS, triton=triton))
        patches.enter_context(mock.patch.object(torch, "empty", _filled(torch.empty)))
        patches.enter_context(mock.patch.object(Tensor, "new_empty", _filled(Tensor.new_empty)))
        for name, function in replaced.items():
            modules = [module for module in LAUNCHERS if hasattr(module, name)]
            if not modules:
                raise LookupError(f"{name}: no launcher has it; see replaced in {__file__}")
            for module in modules:
                patches.enter_context(mock.patch.object(module, name, function))
        yield
