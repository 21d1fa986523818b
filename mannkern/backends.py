"""Which backend runs an operation, and why."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import NamedTuple

import torch

from mannkern import native
from mannkern.triton import tiling

BACKENDS = ("reference", "cpp", "triton", "cuda")
OPERATIONS = {  # by family: a backend has kernels of all of one
    "lrua": ("least_used_mask", "additive_write", "cosine_read", "usage_update", "lrua_step", "lrua_scan"),
    "ntm": ("shift_sharpen", "ntm_address", "ntm_write"),
}

FAMILY = {name: family for family, names in OPERATIONS.items() for name in names}

# what `auto` wants of each device type
_preferred = {"lrua": {"cpu": "cpp", "cuda": "triton"}, "ntm": {"cpu": "cpp", "cuda": "cuda"}}
_MOST_SLOTS = 65_536  # of the CUDA kernels
_has_triton = importlib.util.find_spec("triton") is not None
_warned: set[str] = set()


class BackendInfo(NamedTuple):
    """used: backend of each operation by device type under ``auto``; missing: why each other backend is not used."""

    used: dict[str, dict[str, str]]
    missing: dict[str, str]
    isa: str

    def __str__(self) -> str:
        lines = []
        for device, operations in self.used.items():
            for backend in dict.fromkeys(operations.values()):
                names = ", ".join(name for name, used in operations.items() if used == backend)
                isa = f" ({self.isa})" if backend == "cpp" else ""
                lines.append(f"{device}: {backend}{isa} for {names}")
        return "\n".join(lines + [f"{backend}: {reason}" for backend, reason in self.missing.items()])


def unavailable(backend: str, device_type: str, N: int = 1, W: int = 1, R: int = 1, family: str = "lrua") -> str:
    """Why ``backend`` cannot run a family's operations on ``device_type`` at these sizes, and how to mend it.

    Empty where it can.
    """
    if backend == "reference":
        return ""
    if backend == "cpp":
        return native.reason if device_type == "cpu" else f"backend 'cpp' runs on the CPU, not on {device_type!r}"
    if backend == "triton":
        if family != "lrua":
            return "backend 'triton' has no kernels of the NTM; backend 'cuda' has"
        return _without_triton(device_type) or tiling.unsupported(N, W, R)
    if family != "ntm":
        return "backend 'cuda' has no kernels of LRUA; backend 'triton' has"
    if device_type != "cuda":
        return f"backend 'cuda' runs on a GPU, not on {device_type!r}"
    return native.cuda_reason or ("" if N <= _MOST_SLOTS else f"N = {N}, the CUDA kernels take up to {_MOST_SLOTS:,}")


def _without_triton(device_type: str) -> str:
    if not _has_triton:
        return "Triton is not installed; pip install triton"
    if device_type == "cuda" or (device_type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return ""
    return (
        f"Triton runs on a GPU, not on {device_type!r} (for tests, slowly, with TRITON_INTERPRET=1 set from the start)"
    )


def choose(
    requested: str | None, device: torch.device, N: int = 1, W: int = 1, R: int = 1, family: str = "lrua"
) -> str:
    """The backend of one call: ``backend=``, else MANNKERN_BACKEND, else ``auto``. Only ``auto`` falls back.

    N, W and R are the call's sizes, since a kernel may not take all of them; ``family`` is "lrua" or "ntm".

    Raises ValueError for an unknown name and RuntimeError where an explicit request cannot be met.
    """
    source = "backend" if requested is not None else "MANNKERN_BACKEND"
    name = requested if requested is not None else os.environ.get("MANNKERN_BACKEND", "auto")
    if name == "auto":
        name = _preferred[family].get(device.type, "reference")
        reason = unavailable(name, device.type, N, W, R, family)
        if reason:
            _warn_once(f"mannkern runs on the reference on {device.type!r}: {reason}")
            return "reference"
        return name
    if name not in BACKENDS:
        raise ValueError(f"{source}: got {name!r}, need 'auto' or one of {', '.join(map(repr, BACKENDS))}")
    reason = unavailable(name, device.type, N, W, R, family)
    if reason:
        raise RuntimeError(f"{source}={name!r} cannot be met: {reason}")
    return name


def backend_info() -> BackendInfo:
    """What is used for what under ``auto``, and why not the rest. Prints as a few readable lines."""
    used: dict[str, dict[str, str]] = {}
    for device_type in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        used[device_type] = {}
        for family, operations in OPERATIONS.items():
            wanted = _preferred[family][device_type]
            found = "reference" if unavailable(wanted, device_type, family=family) else wanted
            used[device_type] |= dict.fromkeys(operations, found)
    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    asked = {"cpp": ("cpu", "lrua"), "triton": (gpu, "lrua"), "cuda": (gpu, "ntm")}
    reasons = {backend: unavailable(backend, device, family=family) for backend, (device, family) in asked.items()}
    return BackendInfo(used, {backend: reason for backend, reason in reasons.items() if reason}, native.isa())


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
