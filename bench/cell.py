"""A loop of 50 steps over a cell, as an agent or a device runs it: without gradients, and as a training step.

Sizes are those of the standard episode (F = 405, D = 200, N = 128, W = 40, float32), with four read heads for MANNCell,
and one read head and one write head for NTMCell. "cpp" is the cell, whose step is one operation, "reference" the same
in eager PyTorch. "lstm" is torch.nn.LSTMCell of the width that the controller sees, F + R W; it is not compared.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import parse
from mannkern.benchmark import contestants, harness, workloads

WORKLOADS = {"MANNCell": workloads.mann_cell, "NTMCell": workloads.ntm_cell}


def main() -> None:
    options = parse(__doc__, batch=[1, 16], repeats=9)
    report = harness.Report("cell", options.repeats, file=options.json)
    for (name, workload), B, threads in itertools.product(WORKLOADS.items(), options.batch_size, options.threads):
        for gradient in (False, True):
            report.begin({"cell": name, "gradient": gradient, "B": B, "threads": threads})
            problem = workload(B, gradient=gradient)
            first_steps = workload(min(B, workloads.CHECKED_BATCH), workloads.CHECKED_STEPS, gradient=gradient)
            good = report.check(first_steps, contestants.of(problem.workload))
            report.time(problem, good, bases=["cpp", "lstm"])
    report.end()


if __name__ == "__main__":
    main()
