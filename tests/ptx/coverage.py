"""Which kernels there are, and what keeps them from being compiled here."""

from __future__ import annotations

import importlib.util
import json
import sys

from setup import find_nvcc
from tests.ptx.build import COMPILER, ROOT
from tests.ptx.table import NTM_EPISODE, Row

_NO_CORE = "" if COMPILER and sys.platform == "linux" else "the emulator needs a C++ compiler and Linux"
_NO_TRITON = "" if importlib.util.find_spec("triton") else "Triton is not installed: its kernels are not compiled"
_NO_NVCC = "" if find_nvcc() else "nvcc is not found: the CUDA kernels are not compiled"
MISSING = {False: _NO_CORE or _NO_TRITON, True: _NO_CORE or _NO_NVCC}  # by Row.is_cuda; empty where nothing is missing


def missing(row: Row) -> str:
    """What keeps a row from being run here; empty where nothing does. An NTM's episode has kernels of both kinds."""
    return MISSING[row.is_cuda] or (MISSING[False] if row.check == NTM_EPISODE else "")


def every_kernel(gpu: int) -> set[str]:
    """The names of all kernels of a GPU that can be compiled here: Triton's as bench/static.py has them, and nvcc's."""
    names: set[str] = set()
    if not MISSING[False]:
        recorded = json.loads((ROOT / "bench" / "results" / "static.json").read_text())["triton"]["kernels"]
        names |= {name.split(":")[0] for name in recorded}
    if not MISSING[True]:
        from tests.ptx import cuda_kernels, cuda_lrua, cuda_persistent  # here, because they need nvcc

        for source in (cuda_kernels.SOURCE, cuda_kernels.EPISODE_SOURCE, *cuda_lrua.SOURCES.values()):
            names |= set(cuda_kernels.module(source, 90).entries)
        if gpu in (90, 100):
            names |= set(cuda_kernels.module(cuda_persistent.SOURCE, 90).entries)
    return names
