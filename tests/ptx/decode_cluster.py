"""Decodes barriers, and what blocks of a cluster and tensor cores have; see core/cluster_instructions.h."""

from __future__ import annotations

from tests.ptx import instructions
from tests.ptx.decode import Decoder
from tests.ptx.instructions import TOGETHER, WAIT

NAMED_BARRIER, CLUSTER_BARRIER, MBARRIER = range(3)  # what an instruction of kind WAIT waits for


class ClusterDecoder(Decoder):
    """Adds these instructions to those of :class:`tests.ptx.decode.Decoder`."""

    def decode_bar(self, p: list[str], o: list[str]) -> None:
        kind = [x for x in p[1:] if x not in ("cta", "aligned")]
        sources = tuple(self.value(x, "u32") for x in o)
        if p[1] == "warp":
            self.add("warp_barrier", kind=TOGETHER, s=(self.value(o[0], "b32"),), target=0)
        elif kind == ["sync"] and o == ["0"]:
            self.add("nop", kind=instructions.BARRIER)
        elif kind == ["sync"] and len(o) == 2:
            self.add("nop", kind=WAIT, s=sources, immediate=NAMED_BARRIER)
        elif kind == ["arrive"] and len(o) == 2:
            self.add("bar.arrive", s=sources)
        elif kind == ["cluster", "arrive", "release"]:
            self.add("barrier.cluster.arrive")
        elif kind == ["cluster", "wait", "acquire"]:
            self.add("nop", kind=WAIT, immediate=CLUSTER_BARRIER)
        else:
            raise ValueError(f"PTX: got {self.text!r}, need a barrier of all threads or of a number of them")

    decode_barrier = decode_bar

    def decode_mbarrier(self, p: list[str], o: list[str]) -> None:
        name = ".".join(x for x in p[1:] if x not in ("shared::cta", "b64"))
        if "shared::cta" not in p or name not in ("init", "arrive.expect_tx", "try_wait.parity"):
            raise ValueError(f"PTX: got {self.text!r}, need init, arrive.expect_tx or try_wait.parity of the own block")
        results, place, number = o if len(o) == 3 else [None, *o]
        (base, offset), given = self.address(str(place)), self.value(str(number), "u32")
        if name == "try_wait.parity":
            if offset:
                raise ValueError(f"PTX: got {self.text!r}, need an address without an offset")
            done = self.result(str(results), "pred")
            self.add("nop", kind=WAIT, d=(done,), s=(base, given), immediate=MBARRIER)
        else:
            self.add(f"mbarrier.{name}", s=(base, given), immediate=offset)

    def decode_fence(self, p: list[str], o: list[str]) -> None:
        if p[1:] != ["mbarrier_init", "release", "cluster"]:
            raise ValueError(f"PTX: got {self.text!r}, need fence.mbarrier_init")
        self.add("nop")

    def decode_mapa(self, p: list[str], o: list[str]) -> None:
        if p[1:] != ["shared::cluster", "u32"]:
            raise ValueError(f"PTX: got {self.text!r}, need mapa.shared::cluster.u32")
        sources = (self.value(o[1], "u32"), self.value(o[2], "u32"))
        self.add("mapa", d=(self.result(o[0], "u32"),), s=sources)

    def decode_st(self, p: list[str], o: list[str]) -> None:
        if p[1] != "async":
            self.decode_ld(p, o)
        elif p[-1] in ("b32", "u32", "s32", "f32") and "shared::cluster" in p:
            (to, offset), (mbarrier, none) = self.address(o[0]), self.address(o[2])
            if none:
                raise ValueError(f"PTX: got {self.text!r}, need an mbarrier's address without an offset")
            sources = (to, self.value(o[1], p[-1]), mbarrier)
            self.add("st.async", s=sources, size=4, space=instructions.CLUSTER, immediate=offset)
        else:
            raise ValueError(f"PTX: got {self.text!r}, need st.async of 32 bits")

    def decode_mma(self, p: list[str], o: list[str]) -> None:
        if p[4:] == ["row", "col", *["f64"] * 4] and p[3] in ("m8n8k4", "m16n8k4", "m16n8k8", "m16n8k16"):
            sources = tuple(x for part in o[1:] for x in self.values(part, "f64"))
            rows = 2 if p[3].startswith("m16") else 1  # blocks of 8 rows
            self.add("mma.f64", kind=TOGETHER, d=self.results(o[0], "f64"), s=sources, immediate=rows)
            return
        if p[1:] != ["sync", "aligned", "m16n8k8", "row", "col", "f32", "tf32", "tf32", "f32"]:
            raise ValueError(f"PTX: got {self.text!r}, need the product of TF32 of m16n8k8, or one of float64")
        sources = (*self.values(o[1], "b32"), *self.values(o[2], "b32"), *self.values(o[3], "f32"))
        self.add("mma.tf32", kind=TOGETHER, d=self.results(o[0], "f32"), s=sources)
