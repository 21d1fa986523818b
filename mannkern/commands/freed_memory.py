"""What the process does with memory that tensors have left."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let malloc keep freed memory for the next tensor, up to 2 GB, from now on in this process; glibc's alone.

    Otherwise it gives blocks of 32 MB and more back to the system and takes them, cleared, again: with the batches of
    convolutions of Matching Networks nearly half of a training step. Any program can have the same from outside, by
    ``GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647``.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
