"""A training step of the standard episode: forward, cross entropy, backward (5 classes, T = 50, F = 405, float32).

"cpp" is MANN in compiled code, the others loop over cells with the same parameters: "reference" in eager PyTorch,
"compiled" the same with its cell under torch.compile, "matmul" eager with matrix products. "lstm" is torch.nn.LSTM of
the width MANN's controller sees, what a network without memory costs; its results are its own and not compared.
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

from bench import baselines, measure
from bench.measure import C, D, F, N, R, T, W
from mannkern import MANN, MANNCell, MANNState

Step = Callable[[Tensor, MANNState], tuple[Tensor, MANNState]]
CHECKED_STEPS, CHECKED_BATCH = 4, 16  # in float32; in more steps or episodes rounding may decide a near-tie of usage
CHECKED_EPISODES = 2  # in float64, over all steps
MOST_EAGER = 1024  # episodes that a loop of small operations is timed on: it keeps 5 MB of each


class Model(nn.Module):
    """A MANN under a linear head, run in one of four ways."""

    def __init__(self) -> None:
        super().__init__()
        # no two slots start equal, so that matrix products choose the same slots
        self.mann = MANN(F, D, N, W, R, memory_init="uniform")
        self.head = nn.Linear(self.mann.output_size, C)

    def fused(self, inputs: Tensor) -> Tensor:
        """Logits by the compiled loop."""
        found: Tensor = self.head(self.mann(inputs)[0])
        return found

    def loop(self, step: Step) -> Callable[[Tensor], Tensor]:
        """Logits by a loop over ``step``."""

        def logits(inputs: Tensor) -> Tensor:
            outputs, state = [], self.mann.initial_state(inputs.shape[1])
            for x in inputs:
                output, state = step(x, state)
                outputs.append(output)
            found: Tensor = self.head(torch.stack(outputs))
            return found

        return logits

    def ways(self, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
        """Every way to the logits, by name."""
        self.mann.cell.backend = "cpp"
        eager = copy.copy(self.mann.cell)  # the same parameters
        eager.backend = "reference"
        found = {"cpp": self.fused, "reference": self.loop(eager), "matmul": self.loop(matmul(self.mann.cell))}
        if compiled:
            found["compiled"] = self.loop(torch.compile(eager, dynamic=False))
        return found


def matmul(cell: MANNCell) -> Step:
    return lambda x, state: baselines.cell_step(cell, x, state)


def training(logits: Callable[[Tensor], Tensor], model: nn.Module, inputs: Tensor, labels: Tensor) -> measure.Run:
    """Logits and the gradients of all parameters."""
    parameters = list(model.parameters())

    def run() -> list[Tensor]:
        found = logits(inputs)
        loss = nnf.cross_entropy(found.flatten(0, 1), labels.flatten())
        return [found, *torch.autograd.grad(loss, parameters)]

    return run


def flops(T: int = T) -> int:
    """Of one episode: each product forward and twice backward, but for the input's gradient, which nobody wants."""
    products = 2 * F * 4 * D * 2 + 3 * 2 * ((D + R * W) * 4 * D + D * (2 * R * W + R) + (D + R * W) * C)
    return T * (products + 3 * measure.memory_flops())


def main() -> None:
    options = measure.options(__doc__, batch=[1, 16, 64, 256, 1024, 4096], repeats=5)
    report = measure.Report("episode", options)
    torch.manual_seed(0)
    model, lstm, head = Model(), nn.LSTM(F + R * W, D), nn.Linear(D, C)
    wide = copy.deepcopy(model).double()
    names = ["logits", *(f"grad {name}" for name, _ in model.named_parameters())]

    inputs, labels = torch.rand(T, CHECKED_EPISODES, F).double(), torch.randint(C, (T, CHECKED_EPISODES))
    runs = {name: training(way, wide, inputs, labels) for name, way in wide.ways(compiled=False).items()}
    whole = report.check(runs, names, runs["reference"], None)

    for B, threads in itertools.product(options.batch, options.threads):
        report.begin(B, threads)
        inputs, labels = torch.rand(T, B, F), torch.randint(C, (T, B))
        ways = {name: way for name, way in model.ways(compiled=True).items() if name in whole or name == "compiled"}
        if B > MOST_EAGER:
            report.drop("eager", f"would keep {B * 5 / 1000:.0f} GB")
            ways = {"cpp": ways["cpp"], "reference": ways["reference"]}  # which is checked beside
        part = (slice(CHECKED_STEPS), slice(CHECKED_BATCH))
        first = {name: training(way, model, inputs[part], labels[part]) for name, way in ways.items()}
        truth = training(wide.ways(False)["reference"], wide, inputs[part].double(), labels[part])
        good = report.check(first, names, truth, first["reference"])
        timed = good & {"cpp"} if B > MOST_EAGER else good
        runs = {name: training(way, model, inputs, labels) for name, way in ways.items() if name in timed}
        padded = torch.rand(T, B, F + R * W)
        baseline = nn.ModuleList([lstm, head])
        runs["lstm"] = training(lambda x: head(lstm(x)[0]), baseline, padded, labels)
        report.add(measure.interleave(runs, options.repeats), ["cpp", "lstm"], flops())
    report.end()


if __name__ == "__main__":
    main()
