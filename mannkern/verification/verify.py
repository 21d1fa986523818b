"""``verify``: compares every operation on every backend of this machine with the float64 reference."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.backends import BACKENDS, REFERENCE, Backend, Sizes, why_not
from mannkern.memories.cases import SHAPES, SMALL, Case, Shape, Tensors, arguments, cast, cotangents, run_case
from mannkern.memories.registry import FAMILIES, Family
from mannkern.verification import episodes
from mannkern.verification.accuracy import Error, measure

BATCH = {"batch": Shape(170, 33, 17, 3, 3)}  # work for a second thread
# Sizes that fill a GPU, and memories that the Triton kernels take in tiles
LARGE = {
    "large_batch": Shape(256, 128, 40, 4, 4),
    "large_memory": Shape(1, 5000, 40, 4, 4),
    "largest_memory": Shape(1, 65536, 8, 2, 16, T=2),
    "widest": Shape(2, 50, 512, 16, 16, T=2),
}
INTERPRETED = ("odd", "one_of_each", "more_heads_than_slots")  # shapes for an interpreter, which is slow
ATTEMPTS = 100
EPISODES = 8  # of each shape: in fewer, a gradient of two or three numbers is right or wrong by luck
SETTLED_EPISODES = 4  # of an operation that chooses slots step by step: in more, rounding may decide a near-tie
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Row(NamedTuple):
    """The worst error of an operation on a backend in a dtype, over all cases and shapes, beside what is allowed.

    where: the case, shape and result with the worst error. seconds: the time of the backend and its references.
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
        """Whether the error is within what is allowed; NaN is not."""
        return self.error <= self.allowed


def available_backends(device_types: list[str]) -> list[tuple[str, str]]:
    """Names of the backends to verify here, each with the device type it runs on.

    These are the backends with kernels; and the reference, where a family has no kernels on any backend.
    """
    kernels = [(b.name, d) for d in device_types for b in BACKENDS.values() if _families(b, d) and b is not REFERENCE]
    return kernels + [(REFERENCE.name, d) for d in device_types if _families(REFERENCE, d)]


def _families(backend: Backend, device: str) -> list[Family]:
    """The families that are verified on ``backend``."""
    if backend is REFERENCE:
        return [f for f in FAMILIES.values() if not any(f.name in b.families for b in BACKENDS.values())]
    return [f for f in FAMILIES.values() if not why_not(backend, f.name, device)]


def verify(backend: str, device: str, seed: int) -> Iterator[Row]:
    """Rows of every operation on one backend, inputs drawn from ``seed``."""
    families = _families(BACKENDS[backend], device)
    shapes = _shapes(backend, device)
    for family in families:
        for operation in family.operations.values():
            cases = {name: case for name, case in family.cases.items() if case.operation is operation}
            for dtype in DTYPES:
                begin = time.perf_counter()
                checks = {
                    f"{name}, {shape_name}": partial(_errors, case, shape, DTYPES[dtype], backend, device, seed)
                    for name, case in cases.items()
                    for shape_name, shape in shapes.items()
                }
                yield Row(operation.name, backend, device, dtype, *_worst(checks), time.perf_counter() - begin)
            if operation.differentiable:
                begin = time.perf_counter()
                failed = [name for name, case in cases.items() if not _gradcheck(case, backend, device, seed)]
                seconds, where = time.perf_counter() - begin, ", ".join(failed)
                yield Row(operation.name, backend, device, "gradcheck", float(len(failed)), 0.0, where, seconds)
    for family in families:
        if BACKENDS[backend].fuses_episodes(family.name, Sizes(), torch.float32):
            yield from _episodes(family, backend, device, seed)


def _episodes(family: Family, backend: str, device: str, seed: int) -> Iterator[Row]:
    """The family's fused episodes, in float64 and float32."""
    if family.episode is None:
        return
    interpreted = _is_interpreted(backend, device)
    sizes = episodes.INTERPRETED_SIZES if interpreted else tuple(episodes.SIZES)
    lengths = episodes.INTERPRETED_LENGTHS if interpreted else episodes.LENGTHS
    for dtype in ("float64", "float32"):
        begin = time.perf_counter()
        checks = {
            ", ".join(names): partial(
                episodes.episode_errors, family.episode, backend, device, *names, dtype=DTYPES[dtype], seed=seed
            )
            for names in itertools.product(family.episode.options, sizes, lengths)
        }
        name = family.episode.sequence.__name__
        yield Row(name, backend, device, dtype, *_worst(checks), time.perf_counter() - begin)


def _worst(checks: Mapping[str, Callable[[], dict[str, Error]]]) -> tuple[float, float, str]:
    """Of all results of all checks, the error that is the largest multiple of what is allowed; and where it was."""
    worst, where = Error(-1.0, 1.0), ""
    for name, check in checks.items():
        try:
            measured = check()
        except Exception as error:  # a kernel that does not compile or run is wrong, whatever it raises
            measured = {_message(error): Error(float("inf"), 1.0)}
        for result, error_of_result in measured.items():
            if _ratio(error_of_result) > _ratio(worst):
                worst, where = error_of_result, f"{result} of {name}"
    return *worst, where


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}: result"


def _ratio(error: Error) -> float:
    ratio = error.measured / error.allowed
    return ratio if ratio == ratio else float("inf")


def _is_interpreted(backend: str, device: str) -> bool:
    """Whether kernels made for a GPU run in an interpreter on the CPU, where there is time for a few shapes only."""
    return device == "cpu" and backend != REFERENCE.name and device not in BACKENDS[backend].devices


def _shapes(backend: str, device: str) -> dict[str, Shape]:
    if _is_interpreted(backend, device):
        return {name: SHAPES[name] for name in INTERPRETED}
    several = {name: shape._replace(B=EPISODES if shape.B else 0) for name, shape in SHAPES.items()}
    return several | (LARGE if device == "cuda" else BATCH)


def _errors(case: Case, shape: Shape, dtype: torch.dtype, backend: str, device: str, seed: int) -> dict[str, Error]:
    n = min(shape.n, shape.N)
    if case.operation.is_settled is not None:
        shape = shape._replace(B=min(shape.B, SETTLED_EPISODES))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for attempt in range(ATTEMPTS):
        tensors = cast(case, arguments(case, shape, wide, seed + attempt), dtype)
        if case.operation.is_settled is None or case.operation.is_settled(case, tensors, n):
            gradients = cotangents(case, shape, wide, seed + 1)
            return measure(case, _to(tensors, device), _to(gradients, device), backend, n)[1]
    raise RuntimeError(f"{shape}: no inputs of {ATTEMPTS} that keep the choices of slots apart")


def _to(tensors: Tensors, device: str) -> Tensors:
    return {name: x.to(device) for name, x in tensors.items()}


def _gradcheck(case: Case, backend: str, device: str, seed: int) -> bool:
    tensors = _to(arguments(case, SMALL, torch.float64, seed), device)
    names = [name for name, x in tensors.items() if x.is_floating_point()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_case(case, tensors | dict(zip(names, values)), backend, SMALL.n).values())

    values = [tensors[name].requires_grad_() for name in names]
    try:
        return bool(
            torch.autograd.gradcheck(outputs, values, raise_exception=False, fast_mode=_is_interpreted(backend, device))
        )
    except Exception:  # as above; the other rows say what it is
        return False
