"""``verify``: compares every operation on every backend of this machine with the float64 reference."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

from mannkern.backends import BACKENDS, REFERENCE, Backend, Sizes, why_not
from mannkern.memories.cases import SHAPES, Shape
from mannkern.memories.registry import FAMILIES, Family
from mannkern.verification import episodes
from mannkern.verification.accuracy import Error
from mannkern.verification.checks import DTYPES, GRADCHECK, Check, Outcome, run

BATCH = {"batch": Shape(170, 33, 17, 3, 3)}  # work for a second thread
LONG = {  # sums that one chain of float32 would get wrong
    "many_slots": Shape(8, 16384, 8, 2, 16, T=2),
    "many_columns": Shape(8, 8, 32768, 4, 4, T=2),
    "many_columns_of_one_head": Shape(8, 8, 32768, 1, 1, T=2),
}
# Sizes that fill a GPU, and memories that the Triton kernels take in tiles
LARGE = {
    "large_batch": Shape(256, 128, 40, 4, 4),
    "large_memory": Shape(1, 5000, 40, 4, 4),
    "largest_memory": Shape(1, 65536, 8, 2, 16, T=2),
    "widest": Shape(2, 50, 512, 16, 16, T=2),
}
INTERPRETED = ("odd", "one_of_each", "more_heads_than_slots")  # shapes for an interpreter, which is slow
MOST_PROCESSES = 16  # beside one GPU, whose memory each takes a part of
EPISODES = 8  # of each shape: in fewer, a gradient of two or three numbers is right or wrong by luck


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


def verify(backend: str, device: str, seed: int, threads: int = 1) -> Iterator[Row]:
    """Rows of every operation on one backend, inputs drawn from ``seed``.

    threads: of torch. Checks that have work for a second thread take two at least.
    """
    rows = [
        (operation, dtype, [check._replace(threads=max(threads, check.threads)) for check in checks])
        for operation, dtype, checks in rows_of(backend, device, seed)
    ]
    with _outcomes([check for _, _, checks in rows for check in checks], device) as outcomes:
        for operation, dtype, checks in rows:
            found = list(zip(checks, outcomes))  # takes as many outcomes as there are checks
            yield row_of(operation, backend, device, dtype, found)


def rows_of(backend: str, device: str, seed: int) -> list[tuple[str, str, list[Check]]]:
    """The rows of a backend before they are run: operation, dtype, checks."""
    rows = [row for family in _families(BACKENDS[backend], device) for row in _rows(family, backend, device, seed)]
    return rows + list(_rows_of_others(backend, device, seed))


def row_of(operation: str, backend: str, device: str, dtype: str, found: list[tuple[Check, Outcome]]) -> Row:
    """The row that sums up checks."""
    seconds = sum(outcome.seconds for _, outcome in found)
    return Row(operation, backend, device, dtype, *(_failed(found) if dtype == GRADCHECK else _worst(found)), seconds)


@contextlib.contextmanager
def _outcomes(checks: list[Check], device: str) -> Iterator[Iterator[Outcome]]:
    """The outcomes of checks, in order.

    On a GPU several processes run them, because compiling a kernel for each case and shape takes most of the time.
    """
    if device != "cuda":
        yield map(run, checks)
        return
    context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
    pool = ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1), context)
    try:
        yield pool.map(run, checks)
    finally:
        pool.shutdown(cancel_futures=True)


def _rows(family: Family, backend: str, device: str, seed: int) -> Iterator[tuple[str, str, list[Check]]]:
    """The rows of a family: operation, dtype, checks."""
    shapes, fast = _shapes(backend, device), _is_interpreted(backend, device)
    for operation in family.operations.values():
        cases = [name for name, case in family.cases.items() if case.operation is operation]
        for dtype in DTYPES:
            checks = [
                Check(
                    family.name,
                    backend,
                    device,
                    dtype,
                    name,
                    f"{name}, {shape_name}",
                    seed,
                    shape,
                    threads=2 if shape_name in BATCH else 1,
                )
                for name in cases
                for shape_name, shape in shapes.items()
            ]
            yield operation.name, dtype, checks
        if operation.differentiable:
            checks = [Check(family.name, backend, device, GRADCHECK, name, name, seed, fast=fast) for name in cases]
            yield operation.name, GRADCHECK, checks
    if BACKENDS[backend].fused_episode(family.name, Sizes(), torch.float32) is not None:
        yield from _rows_of_episodes(family, backend, device, seed)


def _rows_of_episodes(family: Family, backend: str, device: str, seed: int) -> Iterator[tuple[str, str, list[Check]]]:
    """The rows of a family's fused episodes, at the sizes and in the dtypes that the backend takes."""
    episode, fast, record = family.episode, _is_interpreted(backend, device), BACKENDS[backend]
    if episode is None:
        return
    sizes = episodes.SIZES | (episodes.LARGE_SIZES if device == "cuda" else {})
    lengths = episodes.INTERPRETED_LENGTHS if fast else episodes.LENGTHS
    why_not_episode = record.operations.get(family.cell.episode_operation, lambda sizes, dtype, device: "")
    for dtype in ("float64", "float32"):
        checks = [
            Check(family.name, backend, device, dtype, options, f"{options}, {size}, {length}", seed,
                  episode=(size, length))
            for options, size, length in itertools.product(episode.options, sizes, lengths)
            if episode.options[options].get("controller", "lstm") in record.episodes[family.name].controllers
            and not (fast and size not in episodes.INTERPRETED_SIZES)
            and not why_not_episode(_sizes_of_episode(*sizes[size]), DTYPES[dtype], torch.device(device))
        ]  # fmt: skip
        if checks:
            yield episode.sequence.__name__, dtype, checks


def _sizes_of_episode(F: int, D: int, N: int, W: int, R: int) -> Sizes:
    return Sizes(N, W, R, D)


def _rows_of_others(backend: str, device: str, seed: int) -> Iterator[tuple[str, str, list[Check]]]:
    """The rows of single operations that a backend has of families of others, where it takes sizes and dtype."""
    record = BACKENDS[backend]
    if record.why_not(torch.device(device), Sizes()):
        return
    for family in (family for family in FAMILIES.values() if family.name not in record.families):
        for operation in (name for name in record.operations if name in family.operations):
            cases = [name for name, case in family.cases.items() if case.operation.name == operation]
            for name, dtype in DTYPES.items():
                shapes = {
                    where: shape
                    for where, shape in _shapes(backend, device).items()
                    if not record.operations[operation](Sizes(shape.N, shape.W, shape.R), dtype, torch.device(device))
                }
                checks = [
                    Check(family.name, backend, device, name, case, f"{case}, {where}", seed, shape)
                    for case in cases
                    for where, shape in shapes.items()
                ]
                if checks:
                    yield operation, name, checks
        if family.cell.episode_operation in record.operations:
            yield from _rows_of_episodes(family, backend, device, seed)


def _worst(found: list[tuple[Check, Outcome]]) -> tuple[float, float, str]:
    """Of all results of all checks, the error that is the largest multiple of what is allowed; and where it was."""
    worst, where = Error(-1.0, 1.0), ""
    for check, outcome in found:
        for result, error in outcome.errors.items():
            if _ratio(error) > _ratio(worst):
                worst, where = error, f"{result} of {check.where}"
    return *worst, where


def _failed(found: list[tuple[Check, Outcome]]) -> tuple[float, float, str]:
    """The number of cases whose gradients are wrong; none is allowed."""
    failed = [check.where for check, outcome in found if outcome.errors]
    return float(len(failed)), 0.0, ", ".join(failed)


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
    return several | (LARGE if device == "cuda" else BATCH | LONG)
