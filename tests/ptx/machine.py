"""Programs and launches: kernels that parse.py read, run by core/ on the memory of CPU tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.ptx.build import core
from tests.ptx.contract import contract
from tests.ptx.instructions import GENERIC, SHARED, Constant, Entry, Instruction, Register, Value

MOST_RESULTS, MOST_SOURCES = 8, 16
COLUMNS = 13 + 3 * (MOST_RESULTS + MOST_SOURCES)  # of an instruction: its fields, then 3 numbers of each
PLACE = {0: 64, 2: 64, 4: 128, 8: 256}  # bytes of a register of each width
BENIGN = "benign"  # how a finding begins that changes nothing
COUNTS = ("warps", "lanes", "sectors", "wavefronts", "least wavefronts")


class Buffer(NamedTuple):
    """A tensor's memory: address on the host, bytes, and the bytes of an element."""

    host: int
    size: int
    unit: int


class Finding(NamedTuple):
    """What is wrong with a launch: how often, at which instruction, and the other one if there are two."""

    kind: str
    times: int
    where: str
    text: str
    other: str
    detail: str


def address(k: int, host: int) -> int:
    """The address of a launch's k-th buffer: far from the others, aligned as on the host."""
    return (k + 1) << 40 | 1 << 20 | host & 0xFFF


class Program:
    """A kernel that is ready to run, with counts of all its launches."""

    def __init__(self, entry: Entry, fused: bool = False) -> None:
        self.entry = entry
        self.code = code = _define_halves(contract(entry.code) if fused else entry.code)
        self._core = core()
        self._places: dict[Value, tuple[int, int, int]] = {}  # offset, number and width of each register
        self._bytes = 0
        rows = np.array([self._row(i) for i in code], np.int64)
        constants = [(*place, x.value) for x, place in self._places.items() if isinstance(x, Constant)]
        table = np.array(constants, np.int64).reshape(-1, 4)
        self.counts = np.zeros((len(COUNTS), len(code)), np.int64)
        self.launches = self.blocks = self.warps = self.sectors_read = self.sectors_written = 0
        unit = min([4, *(i.size for i in code if i.name in ("ld", "st") and i.space in (GENERIC, SHARED))])
        self._handle = self._core.ptx_load(
            _pointer(rows), len(code), COLUMNS, _pointer(table), len(table), ctypes.c_int64(self._bytes),
            ctypes.c_int64(len(self._places)), unit,
        )  # fmt: skip

    def _place(self, x: Value) -> tuple[int, int, int]:
        if x not in self._places:
            self._places[x] = (self._bytes, len(self._places), x.width)
            self._bytes += PLACE[x.width]
        return self._places[x]

    def _row(self, i: Instruction) -> list[int]:
        operation = self._core.ptx_operation(i.name.encode())
        if operation < 0:
            raise ValueError(f"PTX: got {i.text!r}, but {i.name} is not in core/table.h")
        guard = self._place(i.guard)[:2] if i.guard is not None else (-1, -1)
        row = [operation, i.kind, len(i.d), len(i.s), i.size, i.vector, i.space, i.negated, i.flag, *guard]
        row += [i.immediate, int(i.target)]
        for operands, most in ((i.d, MOST_RESULTS), (i.s, MOST_SOURCES)):
            places = [number for x in operands for number in self._place(x)]
            row += places + [0] * (3 * most - len(places))
        return row

    def launch(
        self,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        parameters: bytes,
        buffers: Sequence[Buffer],
        seed: int = 0,
        perturb: int = 0,
        check: bool = True,
        cluster: int = 0,
    ) -> list[Finding]:
        """Run the kernel, and return what is wrong. The k-th buffer lies at ``address(k, host)``.

        seed:    of the order of blocks and warps, and of what undefined registers and shared memory hold
        perturb: a seed of the errors of approximate functions; 0 rounds them correctly
        check:   whether races are looked for
        cluster: blocks that run side by side and give numbers to each other; 0 where none do
        """
        table = np.array(_owners(buffers), np.int64).reshape(-1, 6)
        counts, sectors = np.zeros_like(self.counts), np.zeros(2, np.int64)
        report = self._core.ptx_launch(
            ctypes.c_void_p(self._handle), (ctypes.c_uint32 * 3)(*grid), (ctypes.c_uint32 * 3)(threads, 1, 1),
            cluster, ctypes.c_int64(-(-shared // 16) * 16), parameters, _pointer(table), len(table),
            ctypes.c_uint64(seed), perturb, int(check), _pointer(counts), _pointer(sectors),
        ).decode()  # fmt: skip
        self.counts += counts
        self.launches += 1
        self.blocks += grid[0] * grid[1] * grid[2]
        self.warps = threads // 32
        self.sectors_read += int(sectors[0])
        self.sectors_written += int(sectors[1])
        return [self._finding(*line.split("\t")) for line in report.splitlines()]

    def _finding(self, kind: str, pc: str, other_pc: str, times: str, detail: str) -> Finding:
        here, other = self.code[int(pc)], self.code[int(other_pc)]
        return Finding(kind, int(times), here.where, here.text, f"{other.text} at {other.where}", detail)


def _owners(buffers: Sequence[Buffer]) -> list[tuple[int, ...]]:
    """A row for each buffer. One that lies in an earlier one shares its shadows, so that their races are found."""
    rows: list[tuple[int, ...]] = []
    for k, (host, size, unit) in enumerate(buffers):
        owner, offset = k, 0
        for j, other in enumerate(buffers[:k]):
            inside = other.host <= host and host + size <= other.host + other.size
            if inside and other.unit == unit and rows[j][4] == j:
                owner, offset = j, host - other.host
                break
        rows.append((address(k, host), size, host, unit, owner, offset))
    return rows


def _define_halves(code: list[Instruction]) -> list[Instruction]:
    """What nothing writes to becomes NaN where a word is packed of it: whoever takes the word apart drops that half."""
    written = {x for i in code for x in i.d}

    def define(x: Value) -> Value:
        return Constant(x.width, 0x7FC1) if isinstance(x, Register) and x not in written else x

    return [i._replace(s=tuple(map(define, i.s))) if i.name in ("pack", "prmt.b32") else i for i in code]


def _pointer(x: np.ndarray) -> Any:
    return x.ctypes.data_as(ctypes.c_void_p)
