"""``mannkern.backend_info()``: which backend runs each operation here, and why the other backends do not run."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mannkern.backends import native
from mannkern.backends.backend import Sizes
from mannkern.backends.choice import BACKENDS, REFERENCE, preferred, special, why_not
from mannkern.memories.registry import FAMILIES

STANDARD = Sizes(128, 40, 4)  # MANN's


class BackendInfo(NamedTuple):
    """The result of ``backend_info()``; printed, it is a few readable lines.

    used:    device type -> operation -> the backend that ``auto`` takes, at the papers' sizes in float32
    missing: backend -> why it cannot run on this machine
    isa:     the instruction set of the compiled CPU kernels; "" if they are missing
    """

    used: dict[str, dict[str, str]]
    missing: dict[str, str]
    isa: str

    def __str__(self) -> str:
        lines = []
        for device, operations in self.used.items():
            for backend in dict.fromkeys(operations.values()):
                names = ", ".join(name for name, used in operations.items() if used == backend)
                isa = f" ({self.isa})" if device in BACKENDS[backend].devices and device == "cpu" else ""
                lines.append(f"{device}: {backend}{isa} for {names}")
        return "\n".join(lines + [f"{backend}: {reason}" for backend, reason in self.missing.items()])


def backend_info() -> BackendInfo:
    """Which backend ``auto`` takes for each operation on this machine, and why each missing backend cannot run."""
    device_types = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    used: dict[str, dict[str, str]] = {}
    for device_type in device_types:
        used[device_type] = {}
        for family in FAMILIES.values():
            backend = preferred(family.name, device_type)
            if why_not(backend, family.name, device_type):
                backend = REFERENCE
            used[device_type] |= dict.fromkeys(family.operations, backend.name)
            for name in family.operations:
                first = special(name, torch.device(device_type), STANDARD, torch.float32)
                if first is not None:
                    used[device_type][name] = first.name
    missing = {}
    for backend in BACKENDS.values():
        if backend is not REFERENCE:
            device_type = next((device for device in device_types if device in backend.devices), device_types[0])
            missing[backend.name] = why_not(backend, backend.families[0], device_type)
    return BackendInfo(used, {name: reason for name, reason in missing.items() if reason}, native.isa())
