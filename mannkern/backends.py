"""Which backend runs an operation, and why."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import NamedTuple

import torch

from mannkern import native
from mannkern.triton import paths

BACKENDS = ("reference", "cpp", "triton", "cuda")
OPERATIONS = ("least_used_mask", "additive_write", "cosine_read", "usage_update", "lrua_step", "lrua_scan")

_preferred = {"cpu": "cpp", "cuda": "triton"}  # what `auto` wants of each device type
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


def unavailable(backend: str, device_type: str, N: int = 1, W: int = 1, R: int = 1) -> str:
    """Why ``backend`` cannot run on ``device_type`` at these sizes, with how to mend it; empty where it can."""
    if backend == "reference":
        return ""
    if backend == "cpp":
        return native.reason if device_type == "cpu" else f"backend 'cpp' runs on the CPU, not on {device_type!r}"
    if backend == "triton":
        return _without_triton(device_type) or paths.unsupported(N, W, R)
    return f"backend {backend!r} is not part of this version"


def _without_triton(device_type: str) -> str:
    if not _has_triton:
        return "Triton is not installed; pip install triton"
    if device_type == "cuda" or (device_type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return ""
    return (
        f"Triton runs on a GPU, not on {device_type!r} (for tests, slowly, with TRITON_INTERPRET=1 set from the start)"
    )


def choose(requested: str | None, device: torch.device, N: int = 1, W: int = 1, R: int = 1) -> str:
    """The backend of one call: ``backend=``, else MANNKERN_BACKEND, else ``auto``. Only ``auto`` falls back.

    N, W and R are the call's sizes, since a kernel may not take all of them.

    Raises ValueError for an unknown name and RuntimeError where an explicit request cannot be met.
    """
    source = "backend" if requested is not None else "MANNKERN_BACKEND"
    name = requested if requested is not None else os.environ.get("MANNKERN_BACKEND", "auto")
    if name == "auto":
        name = _preferred.get(device.type, "reference")
        reason = unavailable(name, device.type, N, W, R)
        if reason:
            _warn_once(f"mannkern runs on the reference on {device.type!r}: {reason}")
            return "reference"
        return name
    if name not in BACKENDS:
        raise ValueError(f"{source}: got {name!r}, need 'auto' or one of {', '.join(map(repr, BACKENDS))}")
    reason = unavailable(name, device.type, N, W, R)
    if reason:
        raise RuntimeError(f"{source}={name!r} cannot be met: {reason}")
    return name


def backend_info() -> BackendInfo:
    """What is used for what under ``auto``, and why not the rest. Prints as a few readable lines."""
    used = {}
    for device_type in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        wanted = _preferred[device_type]
        used[device_type] = dict.fromkeys(OPERATIONS, "reference" if unavailable(wanted, device_type) else wanted)
    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    devices = {"cpp": "cpu", "triton": gpu, "cuda": gpu}
    reasons = {backend: unavailable(backend, device) for backend, device in devices.items()}
    return BackendInfo(used, {backend: reason for backend, reason in reasons.items() if reason}, native.isa())


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
