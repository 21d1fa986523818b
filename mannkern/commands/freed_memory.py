"""Memory of freed tensors: a setting that lets the process keep it for the next ones."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let malloc keep up to 2 GB of freed memory for the next tensors of this process. Only glibc's malloc has it.

    By default malloc returns blocks of 32 MB and more to the system, which clears them before it hands them out again.
    With the convolutions of Matching Networks this takes nearly half of a training step. Any program has the same
    effect from ``GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647``.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
