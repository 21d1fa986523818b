"""Cost against T, N, W and R on one thread, forward and backward.

T: a training step of MANN and of torch.nn.LSTM as in episode.py, and lrua_scan, at B = 16, checked on
their first steps, since over many steps rounding decides near-ties of usage. N, W, R: the step as in step.py, the other
two at their standard sizes, beside the eager reference. The process keeps freed memory, as ``python -m mannkern
train`` does: otherwise a step on a memory of 32 MB and more pays for pages that the other contestant gave back.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import episode
from bench.options import parse
from mannkern.benchmark import contestants, harness, workloads
from mannkern.benchmark.workloads import N, R, W
from mannkern.commands.freed_memory import keep_freed_memory

SIZES = {
    "N": (32, 128, 512, 2048, 8192, 32_768, 65_536),
    "W": (8, 20, 40, 64, 128, 256),
    "R": (1, 2, 4, 8, 16),
}
STEPS = (50, 100, 200, 500, 1000, 3000, 10_000)
CHECKED_SCAN = 4  # steps, and episodes


def against_steps(report: harness.Report, B: int) -> None:
    """A training step and a scan by the number of steps T."""
    entrants = episode.check_first_steps(report, B, contestants.of("mann", names=["cpp", "lstm"]))
    scans = report.check(workloads.lrua_scan(CHECKED_SCAN, CHECKED_SCAN), contestants.of("lrua_scan", names=["cpp"]))
    scans = [scan._replace(name="scan") for scan in scans]  # it stands in one panel with the training step
    for T in STEPS:
        report.begin({"B": B, "threads": 1, "curve": "T", "size": T})
        report.time(workloads.mann(B, T), entrants, bases=["cpp"])
        report.time(workloads.lrua_scan(T, B), scans, bases=["scan"])


def against_sizes(report: harness.Report, B: int) -> None:
    """The step alone by slots, width and read heads."""
    for curve, sizes in SIZES.items():
        for size in sizes:
            report.begin({"B": B, "threads": 1, "curve": curve, "size": size})
            step = workloads.lrua_step(B, **{"N": N, "W": W, "R": R} | {curve: size})
            entrants = contestants.of("lrua_step", names=["cpp", "reference"])
            report.time(step, report.check(step, entrants), bases=["cpp"])


def main() -> None:
    options = parse(__doc__, batch=[16], repeats=5, threads=())
    keep_freed_memory()
    report = harness.Report("curves", options.repeats, file=options.json)
    for B in options.batch_size:
        report.begin({"B": B, "threads": 1})
        against_steps(report, B)
        against_sizes(report, B)
    report.end()


if __name__ == "__main__":
    main()
