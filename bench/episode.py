"""A training step of the standard episode: forward, cross entropy, backward (5 classes, T = 50, F = 405, float32).

"cpp" is MANN in compiled code, the others loop over cells with the same parameters: "reference" in eager PyTorch,
"compiled" the same with its cell under torch.compile, "matmul" eager with matrix products. "lstm" is torch.nn.LSTM of
the width that MANN's controller sees: it shows what a network without memory costs, and its results are not compared.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import parse
from mannkern.benchmark import contestants, harness, workloads
from mannkern.benchmark.contestants import Contestant


def check_whole(report: harness.Report, device: str = "cpu") -> list[Contestant]:
    """Contestants that agree with the reference on whole episodes in float64, to 1e-8."""
    return report.check(
        workloads.mann(workloads.CHECKED_EPISODES, device=device).double(), contestants.of("mann", device)
    )


def check_first_steps(
    report: harness.Report, B: int, entrants: Sequence[Contestant], device: str = "cpu"
) -> list[Contestant]:
    """Those of ``entrants`` that obey the rule of accuracy in float32, on the first steps."""
    return report.check(workloads.mann(min(B, workloads.CHECKED_BATCH), workloads.CHECKED_STEPS, device), entrants)


def main() -> None:
    options = parse(__doc__, batch=[1, 16, 64, 256, 1024, 4096], repeats=5)
    report = harness.Report("episode", options.repeats, file=options.json)
    whole = {}
    for threads in options.threads:
        report.begin({"threads": threads})
        whole[threads] = check_whole(report)
    for B, threads in itertools.product(options.batch_size, options.threads):
        report.begin({"B": B, "threads": threads})
        good = check_first_steps(report, B, whole[threads])
        report.time(workloads.mann(B), good, bases=["cpp", "lstm"])
    report.end()


if __name__ == "__main__":
    main()
