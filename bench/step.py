"""The memory step of MANN alone, forward and backward, at the standard sizes (N = 128, W = 40, R = 4, float32)."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import parse
from mannkern.benchmark import contestants, harness, workloads


def main() -> None:
    options = parse(__doc__, batch=[1, 16, 256, 1024], repeats=15)
    report = harness.Report("step", options.repeats, file=options.json)
    for B, threads in itertools.product(options.batch_size, options.threads):
        report.begin({"B": B, "threads": threads})
        step = workloads.lrua_step(B)
        report.time(step, report.check(step, contestants.of("lrua_step")), bases=["cpp"])
    report.end()


if __name__ == "__main__":
    main()
