"""What is compiled on the way, kept in build/ptx: the core of the emulator, PTX of the CUDA kernels, Triton's cache."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
CACHE = ROOT / "build" / "ptx"
COMPILER = shutil.which("c++")
FLAGS = "-O2 -march=native -std=c++17 -ffp-contract=off -frounding-math -fno-strict-aliasing -fwrapv -shared -fPIC"


def cached(name: str, sources: Iterable[Path], make: Callable[[Path], None], *more: str) -> Path:
    """The file ``name`` in CACHE with a hash of its sources, which ``make`` writes if it is not there.

    A lock keeps two processes from making the same file at once. ``more``: what the file also depends on.
    """
    state = hashlib.sha256(repr(more).encode())
    for source in sorted(sources):
        state.update(source.read_bytes())
    path = CACHE / f"{state.hexdigest()[:16]}-{name}"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            make(part)
            part.replace(path)
    return path


@functools.cache
def core() -> ctypes.CDLL:
    """The compiled core."""

    def make(path: Path) -> None:
        source = str(FOLDER / "core" / "core.cpp")
        subprocess.run([str(COMPILER), *FLAGS.split(), source, "-o", str(path)], check=True)

    library = ctypes.CDLL(str(cached("core.so", (FOLDER / "core").iterdir(), make, FLAGS)))
    library.ptx_load.restype = ctypes.c_void_p
    library.ptx_launch.restype = ctypes.c_char_p
    return library
