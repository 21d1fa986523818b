"""Who is timed on a GPU: the fused step by batch size, the scan, a training step of the standard episode; and how.

Each beside the eager reference, torch.compile of it, eager matrix products and, for the episode, cuDNN's LSTM, all as
CUDA graphs where that helps them. The bound is the bytes that must move (docstrings of the kernels) at the bandwidth of
a large copy, measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from bench import baselines
from bench.measure import C, D, F, N, R, Run, T, W, captured
from mannkern import MANN, functional
from mannkern.reference import lrua as reference
from mannkern.verification.accuracy import errors
from mannkern.verification.cases import CASES, OUTPUTS, Shape, arguments, cotangents

STEP, SCAN = CASES["step"], CASES["scan"]
FORWARD_BYTES = 8 * N * W + 12 * R * N + 8 * N + N + 4 * (3 * R * W + R)
BACKWARD_BYTES = 12 * N * W + 16 * R * N + 8 * N + N + 4 * (5 * R * W + 2 * R)
CHECKED = 64  # episodes whose results are compared before anything is timed


class Bench:
    """Rows, and how they are measured."""

    def __init__(self, device: str, repeats: int, deadline: float) -> None:
        self.device, self.repeats, self.deadline = device, repeats, deadline
        self.rows: list[dict[str, Any]] = []
        self.bandwidth = self.copy_bandwidth()
        print(f"copy: {self.bandwidth / 1e12:.2f} TB/s")

    def seconds(self, run: Run) -> list[float]:
        """Of single calls, by events on the device."""
        if self.device == "cpu":
            begin = time.perf_counter()
            run()
            return [time.perf_counter() - begin]
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(self.repeats)]
        for begin, end in pairs:
            begin.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]

    def copy_bandwidth(self) -> float:
        """Bytes read and written a second by a large copy."""
        x = torch.rand(2**28 if self.device == "cuda" else 2**20, device=self.device)
        y = torch.empty_like(x)
        return 2 * x.numel() * x.element_size() / statistics.median(self.seconds(lambda: [y.copy_(x)]))

    def compare(self, what: str, B: int, runs: dict[str, Run], base: str, moved: float) -> None:
        """Time in turn what has been checked; ``moved``: bytes an episode."""
        times: dict[str, float] = {}
        for name, run in runs.items():
            if time.monotonic() > self.deadline:
                print(f"{what}, B = {B}: {name}: no time left")
                continue
            try:
                times[name] = statistics.median(self.seconds(run))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                print(f"{what}, B = {B}: {name} cannot run: {str(error).splitlines()[0]}")
            if self.device == "cuda":
                torch.cuda.empty_cache()
        bound = moved * B / self.bandwidth
        for name, found in times.items():
            row = {"what": what, "B": B, "name": name, "seconds": found, "bound": bound, "of_bound": bound / found}
            self.rows.append(row | {"ratio": found / times[base] if base in times else None})
            print(
                f"{what:22} B = {B:6} {name:22} {found * 1e6:12.1f} us {found / B * 1e6:9.3f} us/episode "
                f"{100 * bound / found:5.1f}% of the bound {self.rows[-1]['ratio'] or 0:7.2f} x {base}",
                flush=True,
            )


def check(names: list[str], runs: dict[str, Run], truth: Run, base: Run) -> dict[str, Run]:
    """Those whose results obey the rule of accuracy."""
    expected, allowed = (dict(zip(names, run(), strict=True)) for run in (truth, base))
    good = {}
    for name, run in runs.items():
        try:
            found = errors(dict(zip(names, run(), strict=True)), expected, allowed)
        except Exception as error:  # a compiler that fails, in whatever way
            print(f"{name} is left out, it cannot run: {str(error).strip().splitlines()[0]}")
            continue
        wrong = {k: x for k, x in found.items() if not x.found <= x.allowed}
        if wrong:
            print(f"{name} is left out, it differs: {wrong}")
        else:
            good[name] = run
    return good


def triton_step(*args: Any) -> tuple[Tensor, ...]:
    """The public operation."""
    *tensors, num_least_used, _, decay = args
    return functional.lrua_step(*tensors, num_least_used=num_least_used, decay=decay, backend="triton")


def step_runs(step: Callable[..., Sequence[Tensor]], B: int, device: str, dtype: torch.dtype) -> tuple[Run, Run]:
    """Forward without gradients, and forward and backward."""
    shape = Shape(B, N, W, R, R)
    leaves = [x.to(device, dtype).requires_grad_() for x in arguments(STEP, shape).values()]
    gradients = [x.to(device, dtype) for x in cotangents(STEP, shape).values()]

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return step(*leaves, None, R, False, 0.99)

    def both() -> Sequence[Tensor]:
        outputs = step(*leaves, None, R, False, 0.99)
        return [*outputs, *torch.autograd.grad(list(outputs), leaves, gradients)]

    return forward, both


def bench_step(bench: Bench, batches: list[int]) -> None:
    """The fused step alone."""
    steps = {"triton": triton_step, "reference": reference.lrua_step, "products": baselines.lrua_step}
    steps["compiled"] = torch.compile(reference.lrua_step, dynamic=False)
    names = [*OUTPUTS["lrua_step"], *(f"grad {k}" for k in ("memory", "read_weights", "usage", "key", "add", "gate"))]
    truth, base = (step_runs(reference.lrua_step, CHECKED, bench.device, d)[1] for d in (torch.float64, torch.float32))
    checked = {k: step_runs(s, CHECKED, bench.device, torch.float32)[1] for k, s in steps.items()}
    good = check(names, checked, truth, base)
    for B in batches:
        torch._dynamo.reset()
        runs = {k: step_runs(steps[k], B, bench.device, torch.float32) for k in good}
        bench.compare("step forward", B, {k: r[0] for k, r in runs.items()}, "triton", FORWARD_BYTES)
        both = {k: r[1] for k, r in runs.items()}
        bench.compare("step with gradient", B, both, "triton", FORWARD_BYTES + BACKWARD_BYTES)


def bench_scan(bench: Bench, B: int, length: int) -> None:
    """The scan beside as many fused steps."""
    shape = Shape(B, N, W, R, R, T=length)
    leaves = [x.to(bench.device).requires_grad_() for x in arguments(SCAN, shape).values()]
    gradients = [x.to(bench.device) for x in cotangents(SCAN, shape).values()]

    def scanned() -> Sequence[Tensor]:
        outputs = functional.lrua_scan(*leaves, backend="triton")
        return torch.autograd.grad(list(outputs), leaves, gradients)

    def stepped() -> Sequence[Tensor]:
        state, reads = leaves[:3], []
        for t in range(length):
            memory, read, *others, _ = functional.lrua_step(*state, *(x[t] for x in leaves[3:]), backend="triton")
            state = [memory, *others]
            reads.append(read)
        return torch.autograd.grad([torch.stack(reads), *state], leaves, gradients)

    moved = length * 4 * (3 * R * W + 6 * R * W + 2 * R) + length * 8 * N * W
    bench.compare(f"scan, T = {length}", B, {"scan": scanned, "steps": stepped}, "scan", moved)


class Model(nn.Module):
    """A MANN, or an LSTM of the width that its controller sees, under a linear head."""

    def __init__(self, memory: str) -> None:
        super().__init__()
        self.body = nn.LSTM(F + R * W, D) if memory == "lstm" else MANN(F, D, N, W, R, memory_init="uniform")
        self.head = nn.Linear(D if memory == "lstm" else D + R * W, C)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs)[0])
        return logits


def training(model: nn.Module, inputs: Tensor, labels: Tensor) -> Run:
    """Forward, cross entropy, backward."""
    parameters = list(model.parameters())

    def run() -> Sequence[Tensor]:
        loss = nnf.cross_entropy(model(inputs).flatten(0, 1), labels.flatten())
        return [loss, *torch.autograd.grad(loss, parameters)]

    return run


def bench_episode(bench: Bench, batches: list[int]) -> None:
    """A training step of the standard episode."""
    torch.manual_seed(0)
    model, lstm = Model("mann").to(bench.device), Model("lstm").to(bench.device)
    cell = model.body.cell
    for B in batches:
        torch._dynamo.reset()
        inputs = torch.rand(T, B, F, device=bench.device)
        labels = torch.randint(C, (T, B), device=bench.device)
        wide = torch.rand(T, B, F + R * W, device=bench.device)

        def on(backend: str, inputs: Tensor = inputs, labels: Tensor = labels) -> Run:
            run = training(model, inputs, labels)

            def chosen() -> Sequence[Tensor]:
                cell.backend = backend
                return run()

            return chosen

        def compiled(inputs: Tensor = inputs, labels: Tensor = labels) -> Run:
            cell.backend = "reference"
            return training(torch.compile(model, mode="reduce-overhead", dynamic=False), inputs, labels)

        runs = {"triton": on("triton"), "reference": on("reference"), "compiled, graphs": compiled()}
        runs["cuDNN LSTM"] = training(lstm, wide, labels)
        if bench.device == "cuda":
            runs["triton, graph"] = captured(on("triton"))
            runs["cuDNN LSTM, graph"] = captured(runs["cuDNN LSTM"])
        moved = T * (FORWARD_BYTES + BACKWARD_BYTES)
        bench.compare(f"training, T = {T}", B, runs, "triton", moved)
