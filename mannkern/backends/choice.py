"""The choice of the backend that runs a call."""

from __future__ import annotations

import os
import warnings

import torch
from torch.autograd import forward_ad

from mannkern.backends import cpp, cuda, reference, triton
from mannkern.backends.backend import Backend, Sizes
from mannkern.backends.onnx import for_onnx

REFERENCE = reference.BACKEND
BACKENDS = {backend.name: backend for backend in (REFERENCE, cpp.BACKEND, triton.BACKEND, cuda.BACKEND)}
_WITH_OPERATIONS = [backend.name for backend in BACKENDS.values() if backend.operations]
_DEVICES_WITH_OPERATIONS = {device for name in _WITH_OPERATIONS for device in BACKENDS[name].devices}
_warned: set[str] = set()


def preferred(family: str, device_type: str) -> Backend:
    """The backend that ``auto`` takes on a device type for a family, if it can run: the first that has its kernels."""
    for backend in BACKENDS.values():
        if family in backend.families and device_type in backend.devices:
            return backend
    return REFERENCE


def special(operation: str, device: torch.device, sizes: Sizes, dtype: torch.dtype) -> Backend | None:
    """The backend that ``auto`` takes for one operation before that of its family, if one has it and can run it."""
    for backend in map(BACKENDS.__getitem__, _WITH_OPERATIONS):
        has_it = operation in backend.operations and device.type in backend.devices
        if (
            has_it
            and operation not in backend.on_request
            and not _why_not_operation(backend, operation, device, sizes, dtype)
        ):
            return backend
    return None


def _why_not_operation(backend: Backend, operation: str, device: torch.device, sizes: Sizes, dtype: torch.dtype) -> str:
    return backend.why_not(device, Sizes()) or backend.operations[operation](sizes, dtype, device)


def why_not(
    backend: Backend,
    family: str,
    device: torch.device | str,
    N: int = 1,
    W: int = 1,
    R: int = 1,
    operation: str = "",
    dtype: torch.dtype = torch.float32,
    D: int = 1,
) -> str:
    """Why ``backend`` cannot run a family's operations, or this one, at these sizes; "" where it can."""
    device = torch.device(device)
    if backend.name == REFERENCE.name or family in backend.families:
        return backend.why_not(device, Sizes(N, W, R))
    if operation in backend.operations:
        return _why_not_operation(backend, operation, device, Sizes(N, W, R, D), dtype)
    others = [repr(other.name) for other in BACKENDS.values() if family in other.families]
    verb = "have" if len(others) > 1 else "has"
    have = f"{' and '.join(others)} {verb} them" if others else "only the reference has them"
    return f"backend {backend.name!r} has no kernels for {family!r}; {have}"


def choose(
    family: str,
    requested: str | None,
    device: torch.device,
    N: int = 1,
    W: int = 1,
    R: int = 1,
    operation: str = "",
    dtype: torch.dtype = torch.float32,
    D: int = 1,
) -> Backend:
    """The backend of one call: ``backend=``, else MANNKERN_BACKEND, else ``auto``. Only ``auto`` falls back.

    N, W, R and D are the call's sizes, because kernels may not take all of them; ``family`` is a memory family's name.
    ``operation`` and its dtype are given where a backend may have that operation alone.
    Where forward-mode derivatives are taken, it is the reference, because no kernel has them, and where torch.compile
    traces a transform of torch.func, because it loses the gradients of an operation that is mapped.

    In torch.onnx.export it is the reference, whatever was requested, because ONNX has no fused operations.

    Raises ValueError for an unknown name and RuntimeError where an explicit request cannot be met.
    """
    source = "backend" if requested is not None else "MANNKERN_BACKEND"
    name = requested if requested is not None else os.environ.get("MANNKERN_BACKEND", "auto")
    if for_onnx():
        return REFERENCE
    if name == "auto":
        if operation and device.type in _DEVICES_WITH_OPERATIONS:
            first = special(operation, device, Sizes(N, W, R, D), dtype)
            if first is not None and not _only_the_reference_can():
                return first
        backend = preferred(family, device.type)
        reason = why_not(backend, family, device, N, W, R)
        if reason:
            _warn_once(f"mannkern runs on the reference on {device.type!r}: {reason}")
            return REFERENCE
        return REFERENCE if _only_the_reference_can() else backend
    check_name(name, source)
    backend = BACKENDS[name]
    reason = why_not(backend, family, device, N, W, R, operation, dtype, D)
    if reason:
        raise RuntimeError(f"{source}: got {name!r}, need another: {reason}")
    return REFERENCE if _only_the_reference_can() else backend


def _only_the_reference_can() -> bool:
    if forward_ad._current_level >= 0:
        return True
    return torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def check_name(name: str | None, source: str = "backend") -> None:
    """Raises ValueError, naming ``source``, for a name that no backend has; None and "auto" leave the choice open."""
    if name is not None and name != "auto" and name not in BACKENDS:
        raise ValueError(f"{source}: got {name!r}, need 'auto' or one of {', '.join(map(repr, BACKENDS))}")


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
