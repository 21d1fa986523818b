"""Finds PTX that gives lanes, or equal slots, unequal bits: products that are fused with a sum in one place only.

A sum over lanes adds a lane's value and its partner's, each rounded. A compiler that sees a product there may fuse it
with the addition: then a lane rounds its partner's product and not its own, and the lanes' sums differ. A compiler may
also fuse the same expression in one register and not in another.
"""

from __future__ import annotations

import re

STATEMENT = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)\s+([^;]*);", re.MULTILINE)
REGISTER = re.compile(r"%\w+")
NUMBERS = (".f32", ".f32x2", ".f64")  # sm_100 and later have pairs
PRODUCT, PARTNER = "product", "partner's product"


def asymmetric_sums(ptx: str) -> list[str]:
    """The instructions that add a lane's product, not rounded or not surely, to its partner's, which is rounded."""
    found = []
    kinds: dict[str, str] = {}  # what each register holds, where it is a product
    for match in STATEMENT.finditer(ptx):
        name, operands = match.groups()
        written_text, read_text = _split(operands)
        written, read = REGISTER.findall(written_text), REGISTER.findall(read_text)
        held = [kinds.get(x, "") for x in read]
        for x in written:
            kinds.pop(x, None)
        operation, number = name.split(".")[0], name.endswith(NUMBERS)
        if operation == "mul" and number:
            kinds[written[0]] = PRODUCT
        elif operation == "shfl" and held[:1] == [PRODUCT]:
            kinds[written[0]] = PARTNER
        elif operation == "mov" and held and held[0] and len(set(held)) == 1:  # float64 passes lanes in two halves
            kinds |= dict.fromkeys(written, held[0])
        fused = operation == "fma" and held[-1:] == [PARTNER] and read_text.rstrip().endswith(read[-1])
        fusable = operation in ("add", "sub") and number and ".rn" not in name and {PRODUCT, PARTNER} == set(held)
        if fused or fusable:
            found.append(match[0].strip())
    return found


def unrounded(ptx: str) -> list[str]:
    """The products and sums that the assembler may fuse, because the PTX does not say how to round them."""
    return [
        match[0].strip()
        for match in STATEMENT.finditer(ptx)
        if match[1].split(".")[0] in ("mul", "add", "sub") and match[1].endswith(NUMBERS) and ".rn" not in match[1]
    ]


def _split(operands: str) -> tuple[str, str]:
    """The text of the registers that an instruction writes, and of what it reads."""
    if operands.startswith("{"):
        written, _, read = operands.partition("}")
    else:
        written, _, read = operands.partition(",")
    return written, read
