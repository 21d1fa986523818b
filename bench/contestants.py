"""The registry of contestants: the ways to compute each workload that are timed. A new one is one line in
:data:`CONTESTANTS`.

Every contestant is first compared with its workload's "reference", in float64 and in float32, unless it computes
something else (``checked=False``).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench import eager
from bench.problems import Operation, Training
from bench.timing import Run, captured
from bench.workloads import MODELS, Network
from mannkern import backend_info, functional, reference


class Contestant(NamedTuple):
    """A way to compute a workload.

    build:      maps a problem to the call that is timed
    devices:    types of device that it runs on
    checked:    whether its results must agree with the reference before it is timed
    graph:      whether a GPU also times it as a CUDA graph
    single:     whether it computes in float32 only, so that it is not compared in float64
    most:       largest batch on a CPU; beyond it the contestant would keep too much for the gradient
    """

    name: str
    build: Callable[[Any], Run]
    devices: tuple[str, ...] = ("cpu", "cuda")
    checked: bool = True
    graph: bool = False
    single: bool = False
    most: int | None = None


def fused(backend: str) -> Callable[[Operation], Run]:
    """The public operation, called as a user calls it, arguments checked and all."""

    def build(problem: Operation) -> Run:
        return problem.run(partial(getattr(functional, problem.workload), **problem.options, backend=backend))

    return build


def step_by(step: Callable[..., Sequence[Tensor]], compiled: bool = False) -> Callable[[Operation], Run]:
    """The memory step of MANN by a function with the reference's arguments, optionally under torch.compile."""

    def build(problem: Operation) -> Run:
        options = (problem.options["num_least_used"], problem.options.get("least_used") == "per_head")
        decay = problem.options.get("decay", 0.99)
        function = torch.compile(step, dynamic=False) if compiled else step

        def call(strength: Tensor | None = None, **tensors: Tensor) -> Sequence[Tensor]:
            return function(*tensors.values(), strength, *options, decay)

        return problem.run(call)

    return build


def scan_by_steps(problem: Operation) -> Run:
    """A loop over the fused step on a GPU."""

    def call(
        memory: Tensor, read_weights: Tensor, usage: Tensor, keys: Tensor, adds: Tensor, gates: Tensor
    ) -> list[Tensor]:
        reads = []
        for interface in zip(keys, adds, gates, strict=True):
            memory, read, read_weights, usage, _ = functional.lrua_step(
                memory, read_weights, usage, *interface, backend="triton"
            )
            reads.append(read)
        return [torch.stack(reads), memory, read_weights, usage]

    return problem.run(call)


def ntm_by(
    address: Callable[..., Tensor], write: Callable[..., Tensor], compiled: bool = False
) -> Callable[[Operation], Run]:
    """Addressing of the NTM and a write by its weights, optionally under torch.compile."""

    def step(memory: Tensor, erase: Tensor, add: Tensor, **heads: Tensor) -> tuple[Tensor, Tensor]:
        weights = address(memory, **heads)
        return weights, write(memory, weights, erase, add)

    return lambda problem: problem.run(torch.compile(step, dynamic=False) if compiled else step)


def ntm_fused(backend: str) -> Callable[[Operation], Run]:
    """The public operations of the NTM."""
    return ntm_by(partial(functional.ntm_address, backend=backend), partial(functional.ntm_write, backend=backend))


def on(backend: str, network: nn.Module) -> Any:
    """A copy of the network with every memory on ``backend``."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if hasattr(module, "backend"):
            module.backend = backend
    return network


def module(backend: str) -> Callable[[Training], Run]:
    """The network as a user writes it."""
    return lambda problem: problem.run(on(backend, problem.network))


class Loop(nn.Module):
    """A network as a loop over ``step``, which maps an input and a state to an output and a state."""

    def __init__(self, network: Network, step: Callable[..., tuple[Tensor, Any]]) -> None:
        super().__init__()
        self.network = network  # first: so parameters are in the order of the network's
        self.step = step

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, state = [], self.network.body.initial_state(inputs.shape[1])
        for x in inputs:
            output, state = self.step(x, state)
            outputs.append(output)
        logits: Tensor = self.network.head(torch.stack(outputs))
        return logits


def cells(backend: str) -> Callable[[Training], Run]:
    """A loop over the cell, as a user writes it."""

    def build(problem: Training) -> Run:
        network = on(backend, problem.network)
        return problem.run(Loop(network, network.body.cell))

    return build


loop = cells("reference")


def compiled_loop(problem: Training) -> Run:
    """A loop over the cell on the reference, with the cell under torch.compile."""
    network = on("reference", problem.network)
    return problem.run(Loop(network, torch.compile(network.body.cell, dynamic=False)))


def matmul_loop(problem: Training) -> Run:
    """A loop over the cell of MANN with matrix products."""
    network = on("reference", problem.network)
    return problem.run(Loop(network, partial(eager.cell_step, network.body.cell)))


def lstm(problem: Training) -> Run:
    """torch.nn.LSTM of the width that the controller sees, input and read, under a linear head."""
    cell, (inputs,) = problem.network.body.cell, problem.inputs
    width = cell.input_size + cell.output_size - cell.hidden_size
    body = nn.LSTM(width, cell.hidden_size)
    network = Network(body, cell.hidden_size, problem.network.head.out_features).to(inputs.device)
    return problem.run(network, (torch.rand(*inputs.shape[:2], width, device=inputs.device),))


class LSTMLoop(nn.Module):
    """A loop over torch.nn.LSTMCell under a linear head."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, state = [], None
        for x in inputs:
            state = self.cell(x, state)
            outputs.append(state[0])
        logits: Tensor = self.head(torch.stack(outputs))
        return logits


def lstm_cells(problem: Training) -> Run:
    """A loop over torch.nn.LSTMCell of the width that the controller sees, input and read, under a linear head."""
    cell, (inputs,) = problem.network.body.cell, problem.inputs
    width = cell.input_size + cell.output_size - cell.hidden_size
    network = LSTMLoop(width, cell.hidden_size, problem.network.head.out_features).to(inputs.device)
    return problem.run(network, (torch.rand(*inputs.shape[:2], width, device=inputs.device),))


CPU, GPU = ("cpu",), ("cuda",)
EAGER = 1024  # episodes of a loop of small operations, which keeps 5 MB of each


def kernels(build: Callable[[str], Callable[[Any], Run]], gpu: str) -> list[Contestant]:
    """mannkern's kernels for the CPU, and those for a GPU."""
    return [Contestant("cpp", build("cpp"), CPU), Contestant(gpu, build(gpu), GPU, graph=True)]


LRUA = ("least_used_mask", "additive_write", "cosine_read", "usage_update")
NTM = ("shift_sharpen", "ntm_address", "ntm_write")
CONTESTANTS: dict[str, list[Contestant]] = {
    **{name: [*kernels(fused, "triton"), Contestant("reference", fused("reference"))] for name in LRUA},
    **{name: [*kernels(fused, "cuda"), Contestant("reference", fused("reference"))] for name in NTM},
    **{name: [*kernels(module, "triton"), Contestant("reference", module("reference"))] for name in MODELS},
    "Transducer": [*kernels(module, "cuda"), Contestant("reference", module("reference"))],
    "lrua_step": [
        *kernels(fused, "triton"),
        Contestant("cuda", fused("cuda"), GPU, graph=True),
        Contestant("reference", step_by(reference.lrua_step)),
        Contestant("compiled", step_by(reference.lrua_step, compiled=True)),
        Contestant("matmul", step_by(eager.lrua_step)),
    ],
    "lrua_scan": [
        *kernels(fused, "triton"),
        Contestant("cuda", fused("cuda"), GPU, graph=True),
        Contestant("steps", scan_by_steps, GPU, graph=True),
        Contestant("reference", fused("reference")),
    ],
    "ntm_step": [
        *kernels(ntm_fused, "cuda"),
        Contestant("reference", ntm_by(reference.ntm_address, reference.ntm_write)),
        Contestant("compiled", ntm_by(reference.ntm_address, reference.ntm_write, compiled=True)),
    ],
    "mann": [
        *kernels(module, "triton"),
        Contestant("cuda", module("cuda"), GPU, single=True, graph=True),
        Contestant("reference", loop, graph=True, most=EAGER),
        Contestant("matmul", matmul_loop, most=EAGER),
        Contestant("compiled", compiled_loop, graph=True, most=EAGER),
        Contestant("lstm", lstm, checked=False, graph=True),
    ],
    **{
        name: [
            *kernels(cells, gpu),
            Contestant("reference", loop, most=EAGER),
            Contestant("lstm", lstm_cells, checked=False),
        ]
        for name, gpu in (("mann_cell", "triton"), ("ntm_cell", "cuda"))
    },
    "copy": [
        *kernels(module, "cuda"),
        Contestant("reference", loop, graph=True, most=EAGER),
        Contestant("compiled", compiled_loop, graph=True, most=EAGER),
        Contestant("lstm", lstm, checked=False, graph=True),
    ],
}


def of(workload: str, device: str = "cpu", names: Sequence[str] = ()) -> list[Contestant]:
    """Contestants of a workload on a type of device: all, or those called ``names``."""
    return [c for c in CONTESTANTS[workload] if device in c.devices and (not names or c.name in names)]


def graphs(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Those ``contestants`` that are also timed as CUDA graphs, each as another contestant."""
    return [
        c._replace(name=f"{c.name}, graph", build=lambda problem, c=c: captured(c.build(problem)))  # type: ignore[misc]
        for c in contestants
        if c.graph
    ]


def reference(workload: str) -> Contestant:
    """The contestant that the others of a workload are compared with."""
    return next(c for c in CONTESTANTS[workload] if c.name == "reference")


def missing(contestant: Contestant, device: str) -> str:
    """Why a contestant cannot run on this machine; empty where it can."""
    if contestant.name == "compiled" and device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler"
    return backend_info().missing.get(contestant.name, "")
