"""The memory step of MANN alone, forward and backward, at the standard sizes (N = 128, W = 40, R = 4, float32)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import baselines, measure
from mannkern import functional
from mannkern.reference import lrua as reference
from tests.helpers import CASES, OUTPUTS, Shape, arguments, cotangents

STEP = CASES["step"]


def fused(*args: Any) -> tuple[Tensor, ...]:
    """The public operation, checks of arguments and all."""
    *tensors, num_least_used, _, decay = args
    return functional.lrua_step(*tensors, num_least_used=num_least_used, decay=decay, backend="cpp")


INPUTS = ("memory", "read_weights", "usage", "key", "add", "gate")
NAMES = [*OUTPUTS["lrua_step"], *(f"grad {name}" for name in INPUTS)]


def standard(B: int) -> Shape:
    """The standard sizes."""
    return Shape(B, measure.N, measure.W, measure.R, measure.R)


def training(step: Callable[..., Sequence[Tensor]], shape: Shape, dtype: torch.dtype = torch.float32) -> measure.Run:
    """Outputs of a step and the gradients of all of its inputs."""
    leaves = [x.to(dtype).requires_grad_() for x in arguments(STEP, shape).values()]
    gradients = [x.to(dtype) for x in cotangents(STEP, shape).values()]

    def run() -> list[Tensor]:
        outputs = step(*leaves, None, shape.n, False, 0.99)
        return [*outputs, *torch.autograd.grad(outputs, leaves, gradients)]

    return run


def main() -> None:
    options = measure.options(__doc__, batch=[1, 16, 256, 1024], repeats=15)
    report = measure.Report("step", options)
    for B, threads in itertools.product(options.batch, options.threads):
        report.begin(B, threads)
        shape = standard(B)
        runs = {
            "cpp": training(fused, shape),
            "reference": training(reference.lrua_step, shape),
            "compiled": training(torch.compile(reference.lrua_step, dynamic=False), shape),
            "matmul": training(baselines.lrua_step, shape),
        }
        truth = training(reference.lrua_step, shape, torch.float64)
        good = report.check(runs, NAMES, truth, runs["reference"])
        times = measure.interleave({name: run for name, run in runs.items() if name in good}, options.repeats)
        report.add(times, ["cpp"], 3 * measure.memory_flops(), measure.step_bytes())
    report.end()


if __name__ == "__main__":
    main()
