"""The rows of what the emulator checks: a small table for ``make test``, and the whole one for ``make gpu-proof``.

This module imports no Triton, so that pytest's own process, in which Triton's interpreter is on, can read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from mannkern.memories.cases import Shape
from mannkern.memories.lrua.verification import CASES as LRUA_CASES
from mannkern.memories.lrua.verification import EPISODE_OPTIONS
from mannkern.memories.ntm.verification import CASES as NTM_CASES
from tests.cuda.persistent import EPISODES

FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
ENDS = "lengths and resets"  # in the name of sizes: of an episode's
TF32 = "TF32"  # in the name of sizes: the user allows it for products
ONE_BLOCK = "one block"  # in the name of sizes: a launch has one block, or a scan one program, for all episodes

LRUA_SHAPES = {
    "standard": Shape(2, 128, 40, 4, 4),
    "standard, one block": Shape(2, 128, 40, 4, 4, T=5),
    "one slot": Shape(2, 1, 5, 3, 1),
    "one of each": Shape(8, 1, 1, 1, 1, T=1),
    "17 slots": Shape(3, 17, 40, 4, 4, T=5),
    "65 episodes": Shape(65, 17, 40, 4, 4, T=2),
    "one column": Shape(2, 128, 1, 2, 2),
    "41 columns": Shape(2, 128, 41, 4, 4),
    "odd, one block": Shape(3, 33, 17, 3, 3, T=5),
    "64 columns": Shape(2, 128, 64, 1, 1),
    "every slot least used": Shape(2, 12, 6, 4, 12),
    "11 heads": Shape(2, 24, 8, 11, 11),
    "bisection": Shape(2, 128, 40, 4, 20),
    "16 heads, bisection": Shape(2, 130, 9, 16, 17),
    "tiles": Shape(2, 300, 40, 4, 4),
    "many slots": Shape(2, 300, 8, 2, 3),
    "512 columns": Shape(1, 16, 512, 2, 2, T=2),
    "512 columns, tiles": Shape(1, 256, 512, 2, 2, T=2),
    "one column, 1024 slots": Shape(2, 1024, 1, 2, 2),
    "4096 slots, tiles": Shape(1, 4096, 8, 2, 4, T=2),
    "9000 slots, tile search": Shape(1, 9000, 4, 2, 16, T=2),
    "9000 slots, sort": Shape(1, 9000, 4, 2, 20, T=2),
}
LARGE = (
    "65 episodes",
    "512 columns, tiles",
    "4096 slots, tiles",
    "9000 slots, tile search",
    "9000 slots, sort",
)  # in float32 alone

NTM_SHAPES = {
    "standard": Shape(2, 128, 20, 4, 1),
    "one of each": Shape(8, 1, 1, 1, 1, S=1),  # 8, because the rounding error of one number is luck
    "17 slots": Shape(2, 17, 5, 3, 1, S=5),
    "17 slots, one block": Shape(2, 17, 5, 3, 1, S=5),
    "7 heads": Shape(2, 33, 17, 7, 1),
    "one column": Shape(2, 130, 1, 2, 1),
    "more shifts than slots": Shape(2, 9, 5, 2, 1, S=35),
    "300 columns": Shape(2, 40, 300, 2, 1),
    "256 slots": Shape(2, 256, 20, 4, 1),
    "a block a row": Shape(2, 257, 20, 5, 1, S=5),
    "rows in device memory": Shape(1, 13000, 3, 1, 1),
}

STEP_SHAPES = {  # of the CUDA kernels of LRUA's step and scan
    "standard": Shape(2, 128, 40, 4, 4),
    "standard, 3 heads": Shape(1, 128, 40, 3, 3),
    "standard, 2 heads": Shape(1, 128, 40, 2, 5),
    "standard, 1 head": Shape(1, 128, 40, 1, 1),
    "odd": Shape(2, 33, 16, 3, 3),
    "one slot": Shape(2, 1, 4, 3, 1),
    "1 head": Shape(2, 20, 8, 1, 1),
    "2 heads": Shape(1, 70, 12, 2, 7),
    "every slot least used": Shape(1, 100, 20, 4, 100),
    "past four warps": Shape(1, 129, 60, 4, 4),
    "most slots": Shape(1, 256, 40, 2, 5),
    "most columns": Shape(1, 64, 128, 4, 40),
}
SCAN_STEPS = {"standard": 5, "one slot": 7}  # 2 at other sizes

NTM_EPISODE = "NTM's episode"
EQUAL_SLOTS = ((128, 40, 4), (128, 40, 1), (40, 12, 4), (256, 20, 3), (33, 16, 2))  # N, W, R
EQUAL_ROWS = ((128, 40), (100, 40), (128, 41), (33, 17), (300, 40))  # N, W
TIES = ((128, 40, 4, 4), (128, 20, 4, 4), (128, 41, 4, 4), (33, 17, 3, 3), (128, 64, 1, 1))  # N, W, R, n


class Row(NamedTuple):
    """One row of the table: a check of a case at some sizes, in a type. ``label`` names the sizes."""

    check: str
    case: str
    label: str
    shape: Shape
    dtype: torch.dtype = FLOAT32
    gradient: bool = True
    backend: str = "triton"  # of LRUA's cases; the operations of the NTM have CUDA kernels alone

    @property
    def name(self) -> str:
        """For people, and for pytest."""
        more = "" if self.gradient else ", no gradient"
        if self.is_cuda and self.case in LRUA_CASES:
            more += ", CUDA"
        return f"{self.check}: {self.case}, {self.label}, {str(self.dtype).removeprefix('torch.')}{more}"

    @property
    def is_cuda(self) -> bool:
        """Whether it needs nvcc; otherwise it needs Triton."""
        return self.backend == "cuda" or self.case in NTM_CASES

    def runs_on(self, gpu: int) -> bool:
        """The persistent kernel needs clusters and 227 KiB of shared memory a block."""
        return self.check != "persistent" or gpu in (90, 100)


def _mask(N: int, n: int, dtype: torch.dtype = FLOAT32) -> Row:
    return Row("mask", "mask", f"{n} of {N}", Shape(5, N, 1, 1, n), dtype)


def _mask_of_step(N: int, n: int) -> Row:
    return Row("mask", "step", f"{n} of {N}", Shape(5, N, 8, 2, n), backend="cuda")


def _equal_rows(N: int, W: int, dtype: torch.dtype = FLOAT32) -> Row:
    return Row("equal rows", "read_strength", f"{N} x {W}", Shape(2, N, W, 4, 1), dtype)


def _ties(N: int, W: int, R: int, n: int, backend: str = "triton") -> Row:
    shape = Shape(8, N, W, R, n, T=4)
    return Row("ties of usage", "step_strength", f"{N} x {W}, R = {R}", shape, backend=backend)


def _step(case: str, label: str) -> Row:
    return Row("accuracy", case, label, STEP_SHAPES[label], backend="cuda")


def _scan(case: str, label: str, gradient: bool = True) -> Row:
    blocks = ", one block" if STEP_SHAPES[label].B > 1 else ""
    shape = STEP_SHAPES[label]._replace(T=SCAN_STEPS.get(label, 2))
    return Row("accuracy", case, label + blocks, shape, gradient=gradient, backend="cuda")


def _long_slots(case: str, label: str, backend: str = "cuda") -> Row:
    shapes = NTM_SHAPES if case in NTM_CASES else STEP_SHAPES if backend == "cuda" else LRUA_SHAPES
    return Row("long slots", case, label, shapes[label]._replace(T=2), backend=backend)


def _equal_slots(N: int, W: int, R: int) -> Row:
    return Row("equal slots", "step_strength", f"{N} x {W}, R = {R}", Shape(2, N, W, R, 1), backend="cuda")


def _episode(controller: str, label: str, with_ends: bool = False, tf32: bool = False) -> Row:
    named = ", ".join([label, *[ENDS] * with_ends, *[TF32] * tf32])
    return Row("episode", controller, named, LRUA_SHAPES[label])


def _ntm_episode(controller: str, label: str, dtype: torch.dtype = FLOAT32, with_ends: bool = False) -> Row:
    named = f"{label}, {ENDS}" if with_ends else label
    return Row(NTM_EPISODE, controller, named, NTM_SHAPES[label]._replace(T=5), dtype, backend="cuda")


def _persistent(label: str) -> Row:
    T, B, _, _, N, W, R = EPISODES[label][0]
    n = EPISODES[label][1].get("num_least_used", 4)
    return Row("persistent", "lstm", label.replace("_", " "), Shape(B, N, W, R, n, T), backend="cuda")


def _of_lrua(case: str, label: str, dtype: torch.dtype = FLOAT32, gradient: bool = True) -> Row:
    return Row("accuracy", case, label, LRUA_SHAPES[label], dtype, gradient)


def _small() -> Iterator[Row]:
    """Each kernel and each path once, the slowest rows first."""
    for case in ("step_strength", "step", "step_per_head"):
        yield _of_lrua(case, "standard")
        yield _of_lrua(case, "tiles")
    yield _of_lrua("scan", "standard, one block")
    yield _of_lrua("scan_strength_per_head", "odd, one block")
    yield _of_lrua("step", "bisection")
    yield _of_lrua("step_strength", "standard", FLOAT16)
    yield _of_lrua("scan", "17 slots", BFLOAT16)
    yield _of_lrua("scan", "every slot least used", FLOAT64)
    yield _of_lrua("scan", "odd, one block", gradient=False)
    yield Row("accuracy", "scan", "bisection", Shape(1, 40, 6, 2, 20, T=2))
    yield Row("accuracy", "scan", "tiles, tile search", Shape(1, 300, 40, 2, 2, T=2))
    yield Row("accuracy", "scan", "tiles, sort", Shape(1, 300, 40, 2, 20, T=2))
    yield Row("accuracy", "step", "tiles, sort", Shape(1, 300, 40, 2, 20))
    for controller in EPISODE_OPTIONS:
        yield from (_episode(controller, "17 slots", with_ends) for with_ends in (False, True))
        yield _ntm_episode(controller, "17 slots", with_ends=True)
    yield _episode("lstm", "17 slots", tf32=True)
    yield _ntm_episode("lstm", "a block a row")
    yield _ties(33, 17, 3, 3)
    yield _equal_rows(128, 40)
    for case, label in (
        ("read_strength", "standard"),
        ("read", "tiles"),
        ("write_reset", "standard"),
        ("write", "tiles"),
    ):
        yield _of_lrua(case, label)
    yield _of_lrua("usage", "standard")
    yield Row("accuracy", "usage", "two tiles", Shape(2, 1500, 1, 2, 2))
    yield from (_mask(128, 4), _mask(128, 20), _mask(9000, 4), _mask(9000, 20))
    for case in NTM_CASES:
        for label in ("standard", "a block a row"):
            yield Row("accuracy", case, label, NTM_SHAPES[label])
        yield Row("accuracy", case, "17 slots, one block", NTM_SHAPES["17 slots, one block"], FLOAT64)
    yield Row("accuracy", "shift_sharpen", "rows in device memory", NTM_SHAPES["rows in device memory"])
    yield from (_step("step_strength", "standard"), _step("step", "odd"), _step("step_per_head", "2 heads"))
    yield from (_step("step", "1 head"), _equal_slots(40, 12, 4), _mask_of_step(33, 4))
    yield _long_slots("read_strength", "standard", "triton")
    yield from (_long_slots("ntm_address", "17 slots"), _long_slots("step_strength", "odd"))
    yield from (_scan("scan", "standard"), _scan("scan_strength_per_head", "odd"), _scan("scan", "1 head", False))
    yield from (_persistent("two_clusters"), _persistent("small"))


def _whole() -> Iterator[Row]:
    """Every case at every size in every type; then masks, equal slots and ties."""
    for dtype in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16):
        for label, shape in LRUA_SHAPES.items():
            if dtype == FLOAT32 or label not in LARGE:
                yield from (Row("accuracy", case, label, shape, dtype, case != "mask") for case in LRUA_CASES)
    yield from (_of_lrua("scan", label, gradient=False) for label in ("standard, one block", "tiles"))
    for dtype in (FLOAT32, FLOAT64):
        for label, shape in NTM_SHAPES.items():
            yield from (Row("accuracy", case, label, shape, dtype) for case in NTM_CASES)
    for label in STEP_SHAPES:
        yield from (_step(case, label) for case in ("step", "step_strength", "step_per_head"))
        yield from (_scan(case, label) for case in ("scan", "scan_strength_per_head"))
        yield _scan("scan", label, gradient=False)
    for label in ("standard", "17 slots", "tiles"):
        yield from (_long_slots(case, label, "triton") for case in ("read_strength", "step_strength", "scan"))
    yield from (_long_slots("ntm_address", label) for label in ("standard", "7 heads", "a block a row"))
    yield from (_long_slots("step_strength", label) for label in ("standard", "odd", "1 head", "most columns"))
    yield from (_equal_slots(*sizes) for sizes in EQUAL_SLOTS)
    yield from (_mask_of_step(*sizes) for sizes in ((128, 4), (70, 9), (33, 33), (256, 40)))
    yield from (_ties(*sizes, backend="cuda") for sizes in ((128, 40, 4, 4), (33, 16, 3, 3)))
    for dtype in (FLOAT32, FLOAT64, BFLOAT16):
        for N in (1, 2, 17, 33, 128, 300, 1024, 2000, 8192, 9000, 20000):
            for n in (1, 4, 16, 17, 20, 100):
                if n <= N and (dtype == FLOAT32 or (N not in (300, 2000, 20000) and n < 100)):
                    yield _mask(N, n, dtype)
    yield from (_equal_rows(N, W, dtype) for N, W in EQUAL_ROWS for dtype in (FLOAT32, FLOAT64))
    yield from (_ties(*sizes) for sizes in TIES)
    for controller in EPISODE_OPTIONS:
        yield from (_episode(controller, label) for label in ("17 slots", "65 episodes", "standard", "tiles"))
        yield _episode(controller, "17 slots", with_ends=True)
        yield from (_episode(controller, label, tf32=True) for label in ("17 slots", "65 episodes", "standard"))
        for label in ("one of each", "17 slots", "standard", "300 columns", "a block a row"):
            yield from (_ntm_episode(controller, label, with_ends=with_ends) for with_ends in (False, True))
        yield from (_ntm_episode(controller, label, FLOAT64, True) for label in ("17 slots", "a block a row"))
    yield from map(_persistent, EPISODES)


SMALL = tuple(_small())
WHOLE = tuple(_whole())
