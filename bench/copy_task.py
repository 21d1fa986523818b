"""A training step of Graves' copy task: forward, cross entropy of the answer, backward (8 bits, 20 + 1 + 20 steps).

NTM of 128 x 20, one read and one write head, LSTM controller of 100, float32. "cpp" is NTM in compiled code, the others
loop over cells with the same parameters: "reference" in eager PyTorch, "compiled" the same with its cell under
torch.compile. "lstm" is torch.nn.LSTM(29, 100), of the width that the NTM's controller sees: it shows what a network
without memory costs, and its results are not compared.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import parse
from mannkern.benchmark import contestants, harness, workloads


def main() -> None:
    options = parse(__doc__, batch=[16, 64, 256], repeats=9)
    report = harness.Report("copy", options.repeats, file=options.json)
    for B, threads in itertools.product(options.batch_size, options.threads):
        report.begin({"B": B, "threads": threads})
        step = workloads.copy_task(B)
        report.time(step, report.check(step, contestants.of("copy")), bases=["cpp", "lstm"])
    report.end()


if __name__ == "__main__":
    main()
