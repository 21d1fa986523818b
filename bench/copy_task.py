"""A training step of Graves' copy task: forward, cross entropy of the answer, backward (8 bits, 20 + 1 + 20 steps).

NTM of 128 x 20, one read and one write head, LSTM controller of 100, float32. "cpp" is NTM in compiled code, the others
loop over cells with the same parameters: "reference" in eager PyTorch, "compiled" the same with its cell under
torch.compile. "lstm" is torch.nn.LSTM(29, 100), of the width the NTM's controller sees, what a network without memory
costs; its results are its own and not compared.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import measure
from mannkern import NTM
from mannkern.tasks import Copy

LENGTH, D, N, W = 20, 100, 128, 20
TASK = Copy()


class Model(nn.Module):
    """An NTM under a linear head, as one operation or as a loop over a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.ntm = NTM(TASK.input_size, D, N, W, memory_init="uniform", backend="cpp")
        self.head = nn.Linear(self.ntm.output_size, TASK.output_size)

    def fused(self, inputs: Tensor) -> Tensor:
        """Logits by the compiled loop."""
        found: Tensor = self.head(self.ntm(inputs)[0])
        return found

    def loop(self, cell: Callable[..., tuple[Tensor, object]]) -> Callable[[Tensor], Tensor]:
        """Logits by a loop over ``cell``."""

        def logits(inputs: Tensor) -> Tensor:
            outputs, state = [], self.ntm.initial_state(inputs.shape[1])
            for x in inputs:
                output, state = cell(x, state)
                outputs.append(output)
            found: Tensor = self.head(torch.stack(outputs))
            return found

        return logits

    def ways(self, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
        """Every way to the logits, by name."""
        eager = copy.copy(self.ntm.cell)  # the same parameters
        eager.backend = "reference"
        found = {"cpp": self.fused, "reference": self.loop(eager)}
        if compiled:
            found["compiled"] = self.loop(torch.compile(eager, dynamic=False))
        return found


def training(logits: Callable[[Tensor], Tensor], model: nn.Module, inputs: Tensor, bits: Tensor) -> measure.Run:
    """Logits of the answer and the gradients of all parameters."""
    parameters = list(model.parameters())

    def run() -> list[Tensor]:
        found = logits(inputs)[-LENGTH:]
        return [found, *torch.autograd.grad(nnf.binary_cross_entropy_with_logits(found, bits), parameters)]

    return run


def flops() -> int:
    """Of one sequence: each product forward and twice backward, but for the input's gradient, which nobody wants; the
    memory's dots, norms, write and read, and a dozen operations on each weight and equation."""
    T, F, output = 2 * LENGTH + 1, TASK.input_size, D + W
    products = 2 * F * 4 * D * 2 + 3 * 2 * (output * 4 * D + D * (4 * W + 2 * 6) + output * TASK.output_size)
    return T * (products + 3 * (N * W * 12 + 2 * N * 50))


def main() -> None:
    options = measure.options(__doc__, batch=[16, 64, 256], repeats=9)
    report = measure.Report("copy", options)
    torch.manual_seed(0)
    model, lstm = Model(), nn.LSTM(TASK.input_size + W, D)
    head, wide = nn.Linear(D, TASK.output_size), copy.deepcopy(model).double()
    names = ["logits", *(f"grad {name}" for name, _ in model.named_parameters())]
    for B, threads in itertools.product(options.batch, options.threads):
        report.begin(B, threads)
        batch = TASK.sample(B, torch.Generator().manual_seed(B), (LENGTH,))
        inputs, bits = batch.inputs, batch.targets[-LENGTH:]
        runs = {name: training(way, model, inputs, bits) for name, way in model.ways(compiled=True).items()}
        truth = training(wide.ways(False)["reference"], wide, inputs.double(), bits.double())
        good = report.check(runs, names, truth, runs["reference"])
        runs = {name: run for name, run in runs.items() if name in good}
        padded = torch.rand(*inputs.shape[:2], TASK.input_size + W)
        runs["lstm"] = training(lambda x: head(lstm(x)[0]), nn.ModuleList([lstm, head]), padded, bits)
        report.add(measure.interleave(runs, options.repeats), ["cpp", "lstm"], flops())
    report.end()


if __name__ == "__main__":
    main()
