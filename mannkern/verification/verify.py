"""Every operation on every backend against the float64 reference, on the machine at hand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.backends import BACKENDS, OPERATIONS, unavailable
from mannkern.verification import episodes
from mannkern.verification.accuracy import Error, measure
from mannkern.verification.cases import (
    CASES,
    SHAPES,
    SMALL,
    WITHOUT_GRADIENT,
    Case,
    Shape,
    Tensors,
    arguments,
    call,
    cotangents,
    keeps_gap,
    narrow,
)

BATCH = {"batch": Shape(170, 33, 17, 3, 3)}  # work for a second thread
# Sizes that fill a GPU, and memories that the Triton kernels take in tiles
LARGE = {
    "large_batch": Shape(256, 128, 40, 4, 4),
    "large_memory": Shape(1, 5000, 40, 4, 4),
    "largest_memory": Shape(1, 65536, 8, 2, 16, T=2),
    "widest": Shape(2, 50, 512, 16, 16, T=2),
}
INTERPRETED = ("odd", "one_of_each", "more_heads_than_slots")  # as many as a minute has time for
ATTEMPTS = 100
EPISODES = 8  # of each shape: a gradient of two or three numbers is right or wrong by luck, in the reference too
SCANNED = 4  # episodes of a scan: in more, rounding may decide a near-tie of usage in one of them
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Row(NamedTuple):
    """The worst, beside what is allowed, of an operation on a backend in a dtype over all cases and shapes.

    ``where``: the case, shape and result it was found in. ``seconds``: of the backend and its references.
    """

    operation: str
    backend: str
    device: str
    dtype: str
    error: float
    allowed: float
    where: str
    seconds: float

    @property
    def good(self) -> bool:
        """Within what is allowed; NaN is not."""
        return self.error <= self.allowed


def contenders(device_types: list[str]) -> list[tuple[str, str]]:
    """Backends that run here, with the device type they run on."""
    backends = [backend for backend in BACKENDS if backend != "reference"]
    return [(b, d) for d in device_types for b in backends if any(not unavailable(b, d, family=f) for f in OPERATIONS)]


def verify(backend: str, device: str, seed: int) -> Iterator[Row]:
    """Rows of every operation on one backend, inputs drawn from ``seed``."""
    operations: dict[str, list[str]] = {}
    cases = CASES | WITHOUT_GRADIENT
    for name, case in cases.items():
        if not unavailable(backend, device, family=case.family):
            operations.setdefault(case.operation, []).append(name)
    shapes = _shapes(backend, device)
    for operation, names in operations.items():
        for dtype in DTYPES:
            begin = time.perf_counter()
            checks = {
                f"{name}, {shape_name}": partial(_errors, cases[name], shape, DTYPES[dtype], backend, device, seed)
                for name in names
                for shape_name, shape in shapes.items()
            }
            yield Row(operation, backend, device, dtype, *_worst(checks), time.perf_counter() - begin)
        if names[0] in CASES:
            begin = time.perf_counter()
            failed = [name for name in names if not _gradcheck(cases[name], backend, device, seed)]
            seconds = time.perf_counter() - begin
            yield Row(operation, backend, device, "gradcheck", float(len(failed)), 0.0, ", ".join(failed), seconds)
    if backend == "cpp":
        yield from _episodes(seed)


def _episodes(seed: int) -> Iterator[Row]:
    """MANN and NTM, whose loop over time is compiled for the CPU, in float64 and float32."""
    for module, options in episodes.OPTIONS.items():
        for dtype in ("float64", "float32"):
            begin = time.perf_counter()
            checks = {
                ", ".join(names): partial(episodes.episode_errors, module, *names, DTYPES[dtype], seed)
                for names in itertools.product(options, episodes.SIZES, episodes.LENGTHS)
            }
            yield Row(module.__name__, "cpp", "cpu", dtype, *_worst(checks), time.perf_counter() - begin)


def _worst(checks: Mapping[str, Callable[[], dict[str, Error]]]) -> tuple[float, float, str]:
    """Of all results the one that is worst beside what it is allowed; and where that was."""
    worst, where = Error(-1.0, 1.0), ""
    for name, check in checks.items():
        try:
            found = check()
        except Exception as error:  # a kernel that does not compile or run is wrong, whatever it raises
            found = {_said(error): Error(float("inf"), 1.0)}
        for result, off in found.items():
            if _ratio(off) > _ratio(worst):
                worst, where = off, f"{result} of {name}"
    return *worst, where


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}: result"


def _ratio(error: Error) -> float:
    ratio = error.found / error.allowed
    return ratio if ratio == ratio else float("inf")


def _shapes(backend: str, device: str) -> dict[str, Shape]:
    if backend == "triton" and device == "cpu":
        return {name: SHAPES[name] for name in INTERPRETED}
    several = {name: shape._replace(B=EPISODES if shape.B else 0) for name, shape in SHAPES.items()}
    return several | (LARGE if device == "cuda" else BATCH)


def _errors(case: Case, shape: Shape, dtype: torch.dtype, backend: str, device: str, seed: int) -> dict[str, Error]:
    n = min(shape.n, shape.N)
    if case.operation == "lrua_scan":
        shape = shape._replace(B=min(shape.B, SCANNED))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for attempt in range(ATTEMPTS):
        tensors = narrow(case, arguments(case, shape, wide, seed + attempt), dtype)
        if case.operation != "lrua_scan" or keeps_gap(case, tensors, n):
            gradients = cotangents(case, shape, wide, seed + 1)
            return measure(case, _to(tensors, device), _to(gradients, device), backend, n)[1]
    raise RuntimeError(f"{shape}: no inputs of {ATTEMPTS} whose usages stay apart")


def _to(tensors: Tensors, device: str) -> Tensors:
    return {name: x.to(device) for name, x in tensors.items()}


def _gradcheck(case: Case, backend: str, device: str, seed: int) -> bool:
    tensors = _to(arguments(case, SMALL, torch.float64, seed), device)
    names = [name for name, x in tensors.items() if x.is_floating_point()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(call(case, tensors | dict(zip(names, values)), backend, SMALL.n).values())

    interpreted = backend == "triton" and device == "cpu"
    values = [tensors[name].requires_grad_() for name in names]
    try:
        return bool(torch.autograd.gradcheck(outputs, values, raise_exception=False, fast_mode=interpreted))
    except Exception:  # as above; the other rows say what it is
        return False
