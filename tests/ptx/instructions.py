"""What PTX text is decoded to: instructions with registers and constants, and kernels made of them."""

from __future__ import annotations

from typing import NamedTuple

WIDTH = {
    "pred": 0, "b8": 2, "s8": 2, "u8": 2, "b16": 2, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "bf16x2": 4, "f16x2": 4,
    "b32": 4, "s32": 4, "u32": 4, "f32": 4, "b64": 8, "s64": 8, "u64": 8, "f64": 8, "f32x2": 8,
}  # fmt: skip
SIZE = {type_: 1 if type_ in ("b8", "s8", "u8") else width for type_, width in WIDTH.items()}  # in memory

ALU, BRANCH, RETURN, BARRIER, TOGETHER, WAIT = range(6)  # kinds, as in core/machine.h
GENERIC, GLOBAL, SHARED, PARAMETER, CLUSTER = range(5)  # spaces, as there
NO_TARGET = 0xFFFFFFFF


def split(text: str) -> list[str]:
    """The operands of an instruction."""
    parts, depth, now = [], 0, ""
    for c in text:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            parts.append(now.strip())
            now = ""
        else:
            now += c
    return [*parts, now.strip()] if now.strip() else parts


class Register(NamedTuple):
    """A register by name; ``width``: the bytes of a lane's value, 0 for a predicate."""

    name: str
    width: int


class Constant(NamedTuple):
    """A number that an instruction is given."""

    width: int
    value: int


Value = Register | Constant


class Instruction(NamedTuple):
    """One instruction, decoded but for the places of its registers.

    name:    its name in core/table.h
    text:    as it stands in the PTX
    where:   the line of the source that it was compiled from
    d, s:    its results and sources
    guard:   the predicate that decides on which lanes it runs; ``negated``: on the others
    flag:    1 for a load that sign-extends, and for a matrix that is transposed
    target:  of a branch, a label, later the number of an instruction; for kind TOGETHER the source with the member mask
    """

    name: str
    text: str
    where: str
    d: tuple[Register, ...] = ()
    s: tuple[Value, ...] = ()
    kind: int = ALU
    size: int = 0
    vector: int = 1
    space: int = GENERIC
    guard: Register | None = None
    negated: int = 0
    flag: int = 0
    immediate: int = 0
    target: int | str = NO_TARGET


class Entry(NamedTuple):
    """A kernel: its instructions, the offset and size of each parameter, and the bytes of all of them.

    A block has exactly ``threads``, or up to ``most_threads`` if that is 0.
    """

    name: str
    code: list[Instruction]
    parameters: list[tuple[int, int]]
    parameter_bytes: int
    threads: int
    most_threads: int
