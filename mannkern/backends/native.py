"""The compiled libraries. Loading one registers its kernels with the dispatcher."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch


def build_command(package: Path) -> str:
    """The command that builds the library for this package."""
    # in a clone an install elsewhere would not be found, because Python looks in its current folder first
    return f"pip install --no-build-isolation {'-e ' if (package.parent / 'setup.py').exists() else ''}."


_BUILD = build_command(Path(__file__).parents[1])


def _load(name: str, needs: str) -> tuple[ctypes.CDLL | None, str]:
    """The library, and why it is not loaded ("" if it is)."""
    path = Path(__file__).parents[1] / name
    if not path.exists():
        kept = path.with_name(f"{name.partition('.')[0]}.txt")  # by setup.py, where compiling failed
        why = f" ({kept.read_text('utf-8', 'replace')})" if kept.exists() else ""
        return None, f"the compiled library was not built{why}; with {needs}: {_BUILD}"
    try:
        torch.ops.load_library(str(path))
        return ctypes.CDLL(str(path)), ""
    except OSError as error:
        return None, f"the compiled library does not load ({error}); build it anew: {_BUILD}"


_handle, reason = _load("_C.pyd" if os.name == "nt" else "_C.abi3.so", "a C++ compiler")
if _handle is not None:
    _handle.mannkern_isa.restype = ctypes.c_char_p
    _handle.mannkern_vector_bytes.restype = ctypes.c_int64
# whether the instruction set in use has products of bfloat16; a variable, which torch.compile can read
multiplies_bfloat16 = _handle is not None and bool(_handle.mannkern_multiplies_bfloat16())

_cuda: ctypes.CDLL | None = None
cuda_reason = f"this PyTorch is built without CUDA; https://pytorch.org has one with it, then: {_BUILD}"
if torch.version.cuda is not None:
    _cuda, cuda_reason = _load("_CUDA.abi3.so", "nvcc and a PyTorch built with CUDA")
if _cuda is not None:
    _cuda.mannkern_persistent_why_not.restype = ctypes.c_char_p


def isa() -> str:
    """Instruction set of the CPU kernels: "avx512", "avx2" or "portable"; "" without the compiled library."""
    return "" if _handle is None else _handle.mannkern_isa().decode()


def set_isa(name: str) -> bool:
    """Use another instruction set from now on, for tests and benchmarks; False where this machine cannot run it."""
    global multiplies_bfloat16
    if _handle is None or not _handle.mannkern_set_isa(name.encode()):
        return False
    multiplies_bfloat16 = bool(_handle.mannkern_multiplies_bfloat16())
    return True


def block(dtype: torch.dtype) -> int:
    """Slots in a block of an episode's memory: two vectors of the instruction set, or 0 without the library."""
    return 0 if _handle is None else 2 * int(_handle.mannkern_vector_bytes()) // dtype.itemsize


def has_cuda_kernels(device_index: int) -> bool:
    """Whether the CUDA library was compiled for this GPU, or has PTX that the driver compiles for it."""
    assert _cuda is not None  # the caller has checked cuda_reason
    return bool(_cuda.mannkern_has_kernels(device_index))


def persistent_why_not(device_index: int, D: int, N: int, W: int, R: int) -> str:
    """Why a GPU cannot run a MANN's episode of these sizes as one kernel; "" where it can."""
    assert _cuda is not None  # the caller has checked cuda_reason
    reason = _cuda.mannkern_persistent_why_not(device_index, *map(ctypes.c_int64, (D, N, W, R)))
    return "" if reason is None else str(reason.decode())
