"""How launches are emulated, and what was found in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.ptx.machine import BENIGN, Buffer, Finding, Program


@dataclass
class Session:
    """Settings of all launches that follow.

    arch:    the GPU that kernels are compiled for, 90 for sm_90
    perturb: a seed of the errors of approximate functions; 0 rounds them correctly
    fused:   whether products and sums are contracted as NVIDIA's assembler may do it
    seed:    of the order of blocks and warps and of undefined values; every launch has the next one
    """

    arch: int = 90
    perturb: int = 0
    fused: bool = False
    seed: int = 0
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    launched: set[str] = field(default_factory=set)  # names of kernels

    def launch(
        self,
        program: Program,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        parameters: bytes,
        buffers: list[Buffer],
        cluster: int = 0,
    ) -> None:
        """Run a kernel; its findings are kept until they are taken. ``cluster``: blocks that run side by side."""
        entry = program.entry
        fits = entry.threads in (0, threads) and threads <= entry.most_threads
        if not fits or entry.parameter_bytes != len(parameters):
            raise ValueError(f"{entry.name}: launched with {threads} threads, {len(parameters)} bytes")
        self.seed += 1
        self.launched.add(entry.name)
        found = program.launch(grid, threads, shared, parameters, buffers, self.seed, self.perturb, cluster=cluster)
        self.findings += [(entry.name, x) for x in found]

    def take_findings(self) -> list[str]:
        """What was found since the last call, but for what changes nothing: a sentence for each kind."""
        found, self.findings = self.findings, []
        harmful = [(name, x) for name, x in found if not x.kind.startswith(BENIGN)]
        times = Counter[str]()
        first: dict[str, tuple[str, Finding]] = {}
        for name, x in harmful:
            times[x.kind] += x.times
            first.setdefault(x.kind, (name, x))
        return [
            f"{kind}, {times[kind]} times, as in {name} at {x.where}: {x.text}; {x.detail}; other: {x.other}"
            for kind, (name, x) in first.items()
        ]


SESSION = Session()
