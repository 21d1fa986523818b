"""Cost against T, N, W and R on one thread, forward and backward.

T: a training step of MANN and of torch.nn.LSTM as in episode.py, and lrua_scan on given keys, at B = 16. N, W, R: the
step as in step.py, the others at their standard sizes, beside the eager reference, checked before they are timed. Over
many steps rounding decides near-ties of usage, so episodes and scans are checked in episode.py and the tests instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import episode, measure, step
from bench.measure import C, D, F, N, R, W
from mannkern import functional
from mannkern.reference import lrua as reference
from tests.helpers import Shape

SIZES = {
    "N": (32, 128, 512, 2048, 8192, 32_768, 65_536),
    "W": (8, 20, 40, 64, 128, 256),
    "R": (1, 2, 4, 8, 16),
}
STEPS = (50, 100, 200, 500, 1000)


def scan(T: int, B: int, backend: str = "cpp") -> measure.Run:
    """Reads of ``lrua_scan`` and the gradients of what it is asked."""
    state = torch.full((B, N, W), 1e-6), torch.zeros(B, R, N), torch.rand(B, N)
    asked = [torch.randn(T, B, R, W), torch.randn(T, B, R, W), torch.randn(T, B, R)]
    for x in asked:
        x.requires_grad_()

    def run() -> list[torch.Tensor]:
        reads = functional.lrua_scan(*state, *asked, backend=backend).reads
        return [reads.detach(), *torch.autograd.grad(reads.sum(), asked)]

    return run


def against_steps(report: measure.Report, B: int, repeats: int) -> None:
    model, lstm, head = episode.Model(), nn.LSTM(F + R * W, D), nn.Linear(D, C)
    model.mann.cell.backend = "cpp"
    baseline = nn.ModuleList([lstm, head])
    for T in STEPS:
        report.begin(B, 1, {"curve": "T", "size": T})
        labels = torch.randint(C, (T, B))
        runs = {
            "cpp": episode.training(model.fused, model, torch.rand(T, B, F), labels),
            "lstm": episode.training(lambda x: head(lstm(x)[0]), baseline, torch.rand(T, B, F + R * W), labels),
        }
        report.add(measure.interleave(runs, repeats), ["cpp"], episode.flops(T))
        report.begin(B, 1, {"curve": "T", "size": T})
        report.add(measure.interleave({"scan": scan(T, B)}, repeats), ["scan"], 0)


def against_sizes(report: measure.Report, B: int, repeats: int) -> None:
    for curve, sizes in SIZES.items():
        for size in sizes:
            report.begin(B, 1, {"curve": curve, "size": size})
            named = {"N": N, "W": W, "R": R} | {curve: size}
            shape = Shape(B, *named.values(), min(named["R"], named["N"]))
            runs = {"cpp": step.training(step.fused, shape), "reference": step.training(reference.lrua_step, shape)}
            truth = step.training(reference.lrua_step, shape, torch.float64)
            good = report.check(runs, step.NAMES, truth, runs["reference"])
            times = measure.interleave({name: run for name, run in runs.items() if name in good}, repeats)
            report.add(times, ["cpp"], 3 * measure.memory_flops(**named), measure.step_bytes(**named))


def main() -> None:
    options = measure.options(__doc__, batch=[16], repeats=5)
    report = measure.Report("curves", options)
    torch.manual_seed(0)
    for B in options.batch:
        against_steps(report, B, options.repeats)
        against_sizes(report, B, options.repeats)
    report.end()


if __name__ == "__main__":
    main()
