"""Decodes the instructions that Triton 3.7 and nvcc 13 emit here; an unknown one is an error when loaded."""

from __future__ import annotations

import re
import struct
from typing import Any

from tests.ptx import instructions
from tests.ptx.instructions import SHARED, SIZE, TOGETHER, WIDTH, Constant, Instruction, Register, Value, split

TYPES = {
    name: k
    for k, name in enumerate(["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "bf16", "f16"])
}
ROUNDING = {name: k for k, name in enumerate(("", "rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"))}
SATURATE, FLUSH = 256, 512
SPECIAL = {
    f"%{a}.{x}": 3 * k + j for k, a in enumerate(("tid", "ntid", "ctaid", "nctaid")) for j, x in enumerate("xyz")
}
SPECIAL |= {"%laneid": 12, "%warpid": 13, "%cluster_ctarank": 14}
SPACES = {
    "global": instructions.GLOBAL,
    "shared": SHARED,
    "shared::cta": SHARED,
    "shared::cluster": instructions.CLUSTER,
    "param": instructions.PARAMETER,
}
SHUFFLES, VOTES = ("bfly", "idx", "up", "down"), ("ballot", "any", "all")
REDUCTIONS, FUNNELS = ("add", "min", "max", "and", "or", "xor"), ("l.wrap", "r.wrap", "l.clamp", "r.clamp")
ADDRESS_CASTS = {"to.global": "move", "global": "move", "shared": "cvta.shared", "to.shared": "cvta.to.shared"}
HALF_OF = {"b64": "b32", "b32": "b16"}
LONG_OF = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}


class Decoder:
    """Decodes instructions into ``code``. ``symbols``: the places of parameters and shared arrays."""

    def __init__(self, symbols: dict[str, int]) -> None:
        self.symbols = symbols
        self.code: list[Instruction] = []
        self.local: set[str] = set()  # parameters of calls, which are registers here
        self.where = self.text = ""
        self.guard: Register | None = None
        self.negated = 0

    def type_of(self, name: str) -> tuple[str, str] | None:
        """The prefix of a register's scope, and its type; None if there is no such register."""
        raise NotImplementedError

    def register(self, name: str) -> Register:
        """The register of that name."""
        known = self.type_of(name)
        if known is None:
            raise ValueError(f"PTX: got {name!r}, need a register, in {self.text!r}")
        return Register(known[0] + name, WIDTH[known[1]])

    def result(self, text: str, type_: str) -> Register:
        """A register that is written to; "_" is one that nobody reads."""
        return Register("_", WIDTH[type_] or 4) if text.strip() == "_" else self.register(text.strip())

    def value(self, text: str, type_: str) -> Value:
        """A register, or a constant of the type."""
        text, width = text.strip(), WIDTH[type_]
        if self.type_of(text):
            return self.register(text)
        if text in ("true", "false"):
            return Constant(0, int(text == "true"))
        if text in self.symbols:
            number = self.symbols[text]
        elif text.startswith(("0f", "0d")):
            number = int(text[2:], 16)
        elif re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
            if type_ in ("f32", "f64"):
                number = int.from_bytes(struct.pack("<f" if type_ == "f32" else "<d", number), "little")
        else:
            raise ValueError(f"PTX: got {text!r}, need an operand of type {type_}, in {self.text!r}")
        number &= (1 << (8 * width or 1)) - 1
        return Constant(width, number - (1 << 64) if number >> 63 else number)

    def values(self, text: str, type_: str) -> tuple[Value, ...]:
        """A vector in braces, or a single value."""
        parts = text.strip()[1:-1].split(",") if text.strip().startswith("{") else [text]
        return tuple(self.value(x, type_) for x in parts)

    def results(self, text: str, type_: str) -> tuple[Register, ...]:
        """As ``values``, of what is written to."""
        parts = text.strip()[1:-1].split(",") if text.strip().startswith("{") else [text]
        return tuple(self.result(x, type_) for x in parts)

    def address(self, text: str) -> tuple[Value, int]:
        """A register or symbol, and an offset."""
        match = re.fullmatch(r"\[\s*([%$\w]+)\s*(?:([+-])\s*(-?\w+))?\s*\]", text.strip())
        if match is None:
            raise ValueError(f"PTX: got an address {text!r}, in {self.text!r}")
        offset = int(match[3], 0) * (-1 if match[2] == "-" else 1) if match[3] else 0
        return self.value(match[1], "u64"), offset

    def add(self, name: str, **fields: Any) -> None:
        """Append an instruction."""
        self.code.append(Instruction(name, self.text, self.where, guard=self.guard, negated=self.negated, **fields))

    def instruction(self, text: str) -> None:
        """Decode one instruction."""
        self.text, self.guard, self.negated = text, None, 0
        if match := re.match(r"@(!?)(%?[\w$]+)\s+(.*)", text):
            self.guard, self.negated, text = self.register(match[2]), int(match[1] == "!"), match[3]
        mnemonic, _, rest = text.partition(" ")
        parts, operands = mnemonic.split("."), split(rest)
        decode = getattr(self, f"decode_{parts[0]}", self.decode_arithmetic)
        decode(parts, operands)

    def decode_arithmetic(self, p: list[str], o: list[str]) -> None:
        """What has a result and sources of one type, or of a wider one."""
        op, type_ = p[0], p[-1]
        if "wide" in p:
            types = [type_, type_, LONG_OF[type_]]
            sources = tuple(self.value(x, t) for x, t in zip(o[1:], types))
            self.add(f"{op}.wide.{type_}", d=(self.result(o[0], LONG_OF[type_]),), s=sources)
        elif p[-2] == "f32":  # mixed precision: the last source and the result are float32
            sources = (*(self.value(x, type_) for x in o[1:-1]), self.value(o[-1], "f32"))
            self.add(f"{op}.f32.{type_}", d=(self.result(o[0], "f32"),), s=sources)
        else:
            name = ".".join(x for x in p if x != "rn")
            self.add(name, d=(self.result(o[0], type_),), s=tuple(self.value(x, type_) for x in o[1:]))

    def decode_bra(self, p: list[str], o: list[str]) -> None:
        self.add("nop", kind=instructions.BRANCH, target=o[0])

    def decode_ret(self, p: list[str], o: list[str]) -> None:
        self.add("nop", kind=instructions.RETURN)

    decode_exit = decode_ret

    def decode_shfl(self, p: list[str], o: list[str]) -> None:
        results = tuple(self.result(x, type_) for x, type_ in zip(o[0].split("|"), ("b32", "pred")))
        sources = tuple(self.value(x, "b32") for x in o[1:])
        self.add("shfl", kind=TOGETHER, d=results, s=sources, immediate=SHUFFLES.index(p[2]), target=3)

    def decode_redux(self, p: list[str], o: list[str]) -> None:
        if len(p) != 4 or (p[3] == "f32" and p[2] not in ("min", "max")):
            raise ValueError(f"PTX: got {self.text!r}, need redux.sync of an operation and a type alone")
        sources = tuple(self.value(x, "b32") for x in o[1:])
        self.add(f"redux.{p[-1]}", kind=TOGETHER, d=(self.result(o[0], p[-1]),), s=sources,
                 immediate=REDUCTIONS.index(p[2]), target=1)  # fmt: skip

    def decode_vote(self, p: list[str], o: list[str]) -> None:
        sources = (self.value(o[1], "pred"), self.value(o[2], "b32"))
        self.add("vote", kind=TOGETHER, d=(self.result(o[0], p[-1]),), s=sources, immediate=VOTES.index(p[2]), target=1)

    def decode_cvta(self, p: list[str], o: list[str]) -> None:
        self.add(ADDRESS_CASTS[".".join(p[1:-1])], d=(self.result(o[0], "u64"),), s=(self.value(o[1], "u64"),))

    def decode_cvt(self, p: list[str], o: list[str]) -> None:
        to, source, modes = p[-2], p[-1], p[1:-2]
        if to in ("bf16x2", "f16x2"):
            self.add(f"cvt.{to}", d=(self.result(o[0], "b32"),), s=tuple(self.value(x, "f32") for x in o[1:]))
            return
        flags = {"sat": SATURATE, "ftz": FLUSH} | ROUNDING
        fields = {"size": TYPES[to], "vector": TYPES[source], "immediate": sum(flags[mode] for mode in modes)}
        self.add("cvt", d=(self.result(o[0], to),), s=(self.value(o[1], source),), **fields)

    def decode_setp(self, p: list[str], o: list[str]) -> None:
        results = tuple(self.result(x, "pred") for x in o[0].split("|"))
        self.add(".".join(p), d=results, s=tuple(self.value(x, p[-1]) for x in o[1:]))

    def decode_selp(self, p: list[str], o: list[str]) -> None:
        sources = (self.value(o[1], p[-1]), self.value(o[2], p[-1]), self.value(o[3], "pred"))
        self.add(".".join(p), d=(self.result(o[0], p[-1]),), s=sources)

    def decode_shl(self, p: list[str], o: list[str]) -> None:
        self.add(".".join(p), d=(self.result(o[0], p[-1]),), s=(self.value(o[1], p[-1]), self.value(o[2], "u32")))

    decode_shr = decode_shl

    def decode_bfe(self, p: list[str], o: list[str]) -> None:
        if WIDTH[p[-1]] != 4:
            raise ValueError(f"PTX: got {self.text!r}, need 32 bits")
        self.add(".".join(p), d=(self.result(o[0], "b32"),), s=tuple(self.value(x, "b32") for x in o[1:]))

    decode_bfi = decode_prmt = decode_bfe

    def decode_popc(self, p: list[str], o: list[str]) -> None:
        self.add(".".join(p), d=(self.result(o[0], "b32"),), s=(self.value(o[1], p[-1]),))

    decode_clz = decode_bfind = decode_brev = decode_popc

    def decode_shf(self, p: list[str], o: list[str]) -> None:
        sources = tuple(self.value(x, "b32") for x in o[1:])
        self.add("shf", d=(self.result(o[0], "b32"),), s=sources, immediate=FUNNELS.index(".".join(p[1:3])))

    def decode_mov(self, p: list[str], o: list[str]) -> None:
        type_, (to, source) = p[-1], o
        if to.startswith("{"):
            self.add("unpack", d=self.results(to, HALF_OF[type_]), s=(self.value(source, type_),))
        elif source.startswith("{"):
            self.add("pack", d=(self.result(to, type_),), s=self.values(source, HALF_OF[type_]))
        elif source in SPECIAL:
            self.add("special_register", d=(self.result(to, type_),), immediate=SPECIAL[source])
        else:
            self.add(f"mov.{type_}", d=(self.result(to, type_),), s=(self.value(source, type_),))

    def decode_ld(self, p: list[str], o: list[str]) -> None:
        type_ = p[-1]
        space = next((SPACES[x] for x in p if x in SPACES), instructions.GENERIC)
        text, data = o if p[0] == "st" else reversed(o)
        name = text.strip()[1:-1].split("+")[0].strip()
        if space == instructions.PARAMETER and name in self.local:
            to, source = (name, data) if p[0] == "st" else (data, name)
            self.add("move", d=(self.result(to, type_),), s=(self.value(source, type_),))
            return
        vector = next((int(x[1:]) for x in p if re.fullmatch(r"v[248]", x)), 1)
        wide = type_ if SIZE[type_] > 1 else "b16"  # a register has at least 16 bits
        base, offset = self.address(text)
        d, s = ((), (base, *self.values(data, wide))) if p[0] == "st" else (self.results(data, wide), (base,))
        self.add(
            p[0], d=d, s=s, size=SIZE[type_], vector=vector, space=space, immediate=offset, flag=int(type_[0] == "s")
        )

    decode_st = decode_ld

    def decode_cp(self, p: list[str], o: list[str]) -> None:
        if p == ["cp", "async", "wait_all"]:
            self.add("wait_for_copies", immediate=-1)
        elif p == ["cp", "async", "commit_group"]:
            self.add("close_group")
        elif p == ["cp", "async", "wait_group"]:
            self.add("wait_for_copies", immediate=int(o[0], 0))
        elif p in (["cp", "async", cached, "shared", "global"] for cached in ("ca", "cg")):
            (to, offset), (source, offset_of_source) = self.address(o[0]), self.address(o[1])
            sources = (to, source, self.value(o[3] if len(o) > 3 else o[2], "b32"), Constant(8, offset_of_source))
            self.add("copy_later", s=sources, size=int(o[2], 0), space=instructions.GLOBAL, immediate=offset)
        else:
            need = "cp.async.cg.shared.global, .ca, commit_group, wait_group or wait_all"
            raise ValueError(f"PTX: got {self.text!r}, need {need}")

    def decode_ldmatrix(self, p: list[str], o: list[str]) -> None:
        text, data = o if p[0] == "stmatrix" else reversed(o)
        base, offset = self.address(text)
        count = next(int(x[1:]) for x in p if re.fullmatch(r"x\d", x))
        d, s = ((), (base, *self.values(data, "b32"))) if p[0] == "stmatrix" else (self.results(data, "b32"), (base,))
        self.add(p[0], kind=TOGETHER, d=d, s=s, vector=count, space=SHARED, immediate=offset, flag=int("trans" in p))

    decode_stmatrix = decode_ldmatrix
