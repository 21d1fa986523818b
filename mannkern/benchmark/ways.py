"""The ways to compute a workload: each is a function that maps a problem to the call that is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mannkern import functional
from mannkern.backends import preferred
from mannkern.benchmark import eager
from mannkern.benchmark.problems import Operation, Training
from mannkern.benchmark.timing import Run
from mannkern.benchmark.workloads import Network


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
    backend = preferred("lrua", "cuda").name

    def call(
        memory: Tensor, read_weights: Tensor, usage: Tensor, keys: Tensor, adds: Tensor, gates: Tensor
    ) -> list[Tensor]:
        reads = []
        for interface in zip(keys, adds, gates, strict=True):
            memory, read, read_weights, usage, _ = functional.lrua_step(
                memory, read_weights, usage, *interface, backend=backend
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
    for part in network.modules():
        if hasattr(part, "backend"):
            part.backend = backend  # type: ignore[assignment]
    return network


def module(backend: str) -> Callable[[Training], Run]:
    """The network as a user writes it."""
    return lambda problem: problem.run(on(backend, problem.network))


class Loop(nn.Module):
    """A network as a loop over ``step``, which maps an input and a state to an output and a state."""

    def __init__(self, network: Any, step: Callable[..., tuple[Tensor, Any]]) -> None:
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


def _like(problem: Training) -> tuple[Tensor, int, int, int]:
    """The inputs, the width that the controller sees, its hidden units and the outputs of the head."""
    network: Any = problem.network
    cell, (inputs,) = network.body.cell, problem.inputs
    return (
        inputs,
        cell.input_size + cell.output_size - cell.hidden_size,
        cell.hidden_size,
        network.head.out_features,
    )


def lstm(problem: Training) -> Run:
    """torch.nn.LSTM of the width that the controller sees, input and read, under a linear head."""
    inputs, width, hidden, outputs = _like(problem)
    network = Network(nn.LSTM(width, hidden), hidden, outputs).to(inputs.device)
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
    inputs, width, hidden, outputs = _like(problem)
    network = LSTMLoop(width, hidden, outputs).to(inputs.device)
    return problem.run(network, (torch.rand(*inputs.shape[:2], width, device=inputs.device),))
