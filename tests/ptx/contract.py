"""Fuses products with sums as NVIDIA's assembler may do."""

from __future__ import annotations

from collections import Counter

from tests.ptx.instructions import BRANCH, Instruction, Register, Value


def contract(code: list[Instruction]) -> list[Instruction]:
    """The code in which each product that one sum alone uses has become part of a fused multiply-add."""
    uses = Counter(x.name for i in code for x in (*i.s, i.guard) if isinstance(x, Register))
    writes = Counter(x.name for i in code for x in i.d)
    starts = {i.target for i in code if i.kind == BRANCH}
    fused: list[Instruction] = []
    products: dict[str, tuple[Value, ...]] = {}  # of this stretch of code, by the register of the product
    for k, i in enumerate(code):
        if k in starts or i.kind == BRANCH:
            products = {}
        may_fuse = i.guard is None and ".rn" not in i.text.split()[0]
        now = i
        if i.name in ("add.f32", "add.f64") and may_fuse:
            for j, x in enumerate(i.s):
                if isinstance(x, Register) and x.name in products and uses[x.name] == writes[x.name] == 1:
                    now = i._replace(name="fma." + i.name[4:], s=(*products[x.name], i.s[1 - j]))
                    break
        fused.append(now)
        products = {name: s for name, s in products.items() if all(x.name != name and x not in s for x in i.d)}
        if i.name in ("mul.f32", "mul.f64") and may_fuse:
            products[i.d[0].name] = i.s
    return fused
