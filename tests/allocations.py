"""Fresh memory filled with NaN, so that a number that nobody writes is seen."""

from __future__ import annotations

import ctypes
import os
import sys

M_PERTURB = -6  # of glibc's malloc.h: fill what malloc hands out


def fill_with_nan(on: bool) -> None:
    """Whether fresh memory is all ones, NaN in every float type, for torch's tensors and the kernels' own buffers.

    Blocks of up to about 1 kB that malloc takes from its cache of a thread stay as they were, unless the process began
    with GLIBC_TUNABLES=glibc.malloc.tcache_count=0, as in `make test`. A sanitizer has an option of its own for it.
    """
    if sys.platform != "linux" or "ASAN_OPTIONS" in os.environ:
        return
    assert ctypes.CDLL(None).mallopt(M_PERTURB, 0x100 if on else 0)  # malloc fills with the complement of the low byte
