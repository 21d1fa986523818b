"""What ``verify`` would run on this machine, in words, and whether it has run here before."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mannkern.backends import BACKENDS, REFERENCE
from mannkern.files import user_cache, write_json
from mannkern.verification import episodes
from mannkern.verification.checks import Check
from mannkern.verification.verify import MOST_PROCESSES, available_backends, rows_of

Rows = list[tuple[str, str, list[Check]]]  # operation, dtype, checks
SECONDS_A_KERNEL = 3  # an estimate; compilers and machines differ


def plan(device_types: list[str]) -> str:
    """Backends, families, operations, dtypes and sizes, the number of checks, and what is compiled first."""
    lines, rows, checks = list[str](), 0, 0
    for backend, device in available_backends(device_types):
        of_backend = rows_of(backend, device, seed=0)
        lines += [*_describe(backend, device, of_backend), ""]
        rows += len(of_backend)
        checks += sum(len(several) for _, _, several in of_backend)
    return "\n".join([*lines, f"{rows} rows, {checks} checks"])


def _describe(backend: str, device: str, rows: Rows) -> Iterator[str]:
    """The lines of one backend."""
    every = [check for _, _, checks in rows for check in checks]
    yield f"{backend} on {device}: {len(every)} checks"
    for family in dict.fromkeys(check.family for check in every):
        yield f"  {family}"
        of_family = [row for row in rows if row[2][0].family == family]
        for operation in dict.fromkeys(operation for operation, _, _ in of_family):
            several = [(dtype, checks) for name, dtype, checks in of_family if name == operation]
            count = sum(len(checks) for _, checks in several)
            yield f"    {operation:18}{count:5} checks: {', '.join(dtype for dtype, _ in several)}"
    for name, texts in (("sizes", _sizes(every)), ("sizes of episodes", _episodes(every))):
        yield from _lines(name, texts) if texts else ()
    yield f"  compiled first: {_compiled_first(backend, device, every)}"


def _sizes(checks: Sequence[Check]) -> list[str]:
    """The sizes of operations, each once."""
    shapes = dict.fromkeys(check.shape for check in checks if check.episode is None)
    return [f"B={x.B} N={x.N} W={x.W} R={x.R} n={x.n}" for x in shapes]


def _episodes(checks: Sequence[Check]) -> list[str]:
    """The sizes of whole episodes, each once."""
    found = []
    for size, length in dict.fromkeys(check.episode for check in checks if check.episode is not None):
        F, D, N, W, R = episodes.every_size()[size]
        T, B = episodes.every_length()[length]
        found.append(f"T={T} B={B} F={F} D={D} N={N} W={W} R={R}")
    return found


def _lines(name: str, texts: Sequence[str], width: int = 120) -> Iterator[str]:
    """The texts behind a name, in lines of at most ``width`` characters."""
    line = f"  {name}: "
    for k, text in enumerate(texts):
        part = text + ("; " if k < len(texts) - 1 else "")
        if len(line) + len(part) > width:
            yield line.rstrip()
            line = "    "
        line += part
    yield line.rstrip()


def _compiled_first(backend: str, device: str, checks: Sequence[Check]) -> str:
    """What has to be compiled before a check can run, and about what that takes."""
    if backend == REFERENCE.name:
        return "nothing; it is plain PyTorch"
    if not BACKENDS[backend].compiles_on_use or device == "cpu":
        return "nothing"
    kernels = 2 * len(checks)
    processes = min(MOST_PROCESSES, os.cpu_count() or 1)
    minutes = -(-kernels * SECONDS_A_KERNEL // (60 * processes))
    return (
        f"about {kernels} kernels, forward and backward of each check, in {processes} processes side by side;\n"
        f"    if a kernel takes {SECONDS_A_KERNEL} s, that is {minutes} min. The compiler keeps them for the next run"
    )


def has_run_before(machine: str) -> bool:
    """Whether ``verify`` has run on a machine of this description."""
    return machine in _machines()


def remember(machine: str) -> None:
    """Write down that ``verify`` has run here. In a home that cannot be written to, the next use is the first again."""
    machines = _machines()
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(), sorted({*machines, machine}))


def _machines() -> list[str]:
    try:
        found = json.loads(_file().read_text())
    except (OSError, RuntimeError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _file() -> Path:
    return user_cache() / "verified.json"
