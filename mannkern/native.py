"""Loads the compiled library, which registers its kernels with the dispatcher."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

_path = Path(__file__).with_name("_C.abi3.so")
_handle: ctypes.CDLL | None = None
reason = ""  # why the library is not loaded; empty where it is

if not _path.exists():
    reason = "the compiled library was not built; with a C++ compiler: pip install --no-build-isolation ."
else:
    try:
        torch.ops.load_library(str(_path))
        _handle = ctypes.CDLL(str(_path))
        _handle.mannkern_isa.restype = ctypes.c_char_p
    except OSError as error:
        reason = f"the compiled library does not load ({error}); build it anew: pip install --no-build-isolation ."


def isa() -> str:
    """Instruction set of the CPU kernels: "avx512", "avx2" or "portable"; "" without the compiled library."""
    return "" if _handle is None else _handle.mannkern_isa().decode()


def set_isa(name: str) -> bool:
    """Use another instruction set from now on, for tests and benchmarks; False where this machine cannot run it."""
    return _handle is not None and bool(_handle.mannkern_set_isa(name.encode()))
