"""The registry of contestants: the ways to compute each workload that are timed. A new one is one line in
:data:`CONTESTANTS`; mannkern's own are made from the records of the backends.

Every contestant is first compared with its workload's "reference", in float64 and in float32, unless it computes
something else (``checked=False``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from mannkern import backend_info
from mannkern import reference as equations
from mannkern.backends import BACKENDS, REFERENCE, Sizes
from mannkern.benchmark import eager, ways
from mannkern.benchmark.timing import Run, captured
from mannkern.benchmark.workloads import MODELS
from mannkern.memories.core import CORES
from mannkern.memories.registry import FAMILIES


class Contestant(NamedTuple):
    """A way to compute a workload.

    build:      maps a problem to the call that is timed
    devices:    types of device that it runs on
    checked:    whether its results must agree with the reference before it is timed
    graph:      whether a GPU also times it as a CUDA graph
    single:     whether it computes in float32 only, so that it is not compared in float64
    keeps_all:  whether it keeps five copies of the memory for the gradient at every step, which limits the batch
    fused:      whether it is one of mannkern's backends
    """

    name: str
    build: Callable[[Any], Run]
    devices: tuple[str, ...] = ("cpu", "cuda")
    checked: bool = True
    graph: bool = False
    single: bool = False
    keeps_all: bool = False
    fused: bool = False


def kernels(build: Callable[[str], Callable[[Any], Run]], family: str, operation: str = "") -> list[Contestant]:
    """Every backend with kernels for a family's operations, or for this one of them."""
    found = []
    for backend in BACKENDS.values():
        if backend is not REFERENCE and (family in backend.families or operation in backend.operations):
            special = backend.operations.get(operation, lambda sizes, dtype, device: "")
            found.append(
                Contestant(
                    backend.name,
                    build(backend.name),
                    backend.devices,
                    graph="cuda" in backend.devices,
                    single=bool(special(Sizes(128, 40, 4), torch.float64, torch.device("cuda"))),
                    fused=True,
                )
            )
    return found


def sequences(family: str, operation: str = "") -> list[Contestant]:
    """The ways to train a network of a memory sequence: its kernels, loops over its cell, and nn.LSTM."""
    return [
        *kernels(ways.module, family, operation),
        Contestant("reference", ways.loop, graph=True, keeps_all=True),
        Contestant("compiled", ways.compiled_loop, graph=True, keeps_all=True),
        Contestant("lstm", ways.lstm, checked=False, graph=True),
    ]


def operations(family: str) -> dict[str, list[Contestant]]:
    """The contestants of each operation of a family."""
    reference = Contestant("reference", ways.fused("reference"))
    return {name: [*kernels(ways.fused, family, name), reference] for name in FAMILIES[family].operations}


MANN = sequences("lrua", "mann_episode")
MODEL_FAMILIES = dict.fromkeys(MODELS, "lrua") | {"Transducer": "ntm"}
CONTESTANTS: dict[str, list[Contestant]] = {
    **operations("lrua"),
    **operations("ntm"),
    **{
        name: [*kernels(ways.module, family), Contestant("reference", ways.module("reference"))]
        for name, family in MODEL_FAMILIES.items()
    },
    "lrua_step": [
        *kernels(ways.fused, "lrua", "lrua_step"),
        Contestant("reference", ways.step_by(equations.lrua_step)),
        Contestant("compiled", ways.step_by(equations.lrua_step, compiled=True)),
        Contestant("matmul", ways.step_by(eager.lrua_step)),
    ],
    "lrua_scan": [
        *kernels(ways.fused, "lrua", "lrua_scan"),
        Contestant("steps", ways.scan_by_steps, ("cuda",), graph=True),
        Contestant("reference", ways.fused("reference")),
    ],
    "ntm_step": [
        *kernels(ways.ntm_fused, "ntm"),
        Contestant("reference", ways.ntm_by(equations.ntm_address, equations.ntm_write)),
        Contestant("compiled", ways.ntm_by(equations.ntm_address, equations.ntm_write, compiled=True)),
    ],
    "mann": [*MANN[:-2], Contestant("matmul", ways.matmul_loop, keeps_all=True), *MANN[-2:]],
    **{
        name: [
            *kernels(ways.cells, family),
            Contestant("reference", ways.loop, keeps_all=True),
            Contestant("lstm", ways.lstm_cells, checked=False),
        ]
        for name, family in (("mann_cell", "lrua"), ("ntm_cell", "ntm"))
    },
    "copy": sequences("ntm"),
    "ntm": sequences("ntm"),
}


def every(workload: str) -> list[Contestant]:
    """All contestants of a workload, which may be a core with a memory that has no line of its own."""
    if workload in CONTESTANTS:
        return CONTESTANTS[workload]
    family = CORES[workload].family
    return sequences(family or "")


def of(workload: str, device: str = "cpu", names: Sequence[str] = ()) -> list[Contestant]:
    """Contestants of a workload on a type of device: all, or those called ``names``."""
    return [c for c in every(workload) if device in c.devices and (not names or c.name in names)]


def graphs(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Those ``contestants`` that are also timed as CUDA graphs, each as another contestant."""
    return [
        c._replace(name=f"{c.name}, graph", build=lambda problem, c=c: captured(c.build(problem)))  # type: ignore[misc]
        for c in contestants
        if c.graph
    ]


def reference(workload: str) -> Contestant:
    """The contestant that the others of a workload are compared with."""
    return next(c for c in every(workload) if c.name == "reference")


def missing(contestant: Contestant, device: str) -> str:
    """Why a contestant cannot run on this machine; empty where it can."""
    if contestant.name == "compiled" and device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler"
    return backend_info().missing.get(contestant.name, "")
