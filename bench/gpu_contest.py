"""Who is timed on a GPU: the fused step by batch size, the scan, a training step of the standard episode; and how.

Each beside the eager reference, torch.compile of it, eager matrix products and, for the episode, cuDNN's LSTM, all as
CUDA graphs where that helps them. The bound is the bytes that must move (docstrings of the kernels) at the bandwidth of
a large copy, measured in the same run.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mannkern.verification.cases import CASES, OUTPUTS, Shape, arguments, cotangents
from torch import Tensor, nn
from torch.nn import functional as nnf

from bench import baselines
from bench.measure import C, D, F, N, R, Run, T, W, captured
from mannkern import MANN, functional
from mannkern.reference import lrua as reference
from mannkern.verification.accuracy import errors, relative_errors

STEP, SCAN = CASES["step"], CASES["scan"]
FORWARD_BYTES = 8 * N * W + 12 * R * N + 8 * N + N + 4 * (3 * R * W + R)
BACKWARD_BYTES = 12 * N * W + 16 * R * N + 8 * N + N + 4 * (5 * R * W + 2 * R)
DRAWN = 64  # episodes that are drawn; a larger batch repeats them
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

    def compare(self, what: str, B: int, makers: dict[str, Callable[[], Run]], base: str, moved: float) -> None:
        """Time what is made, one after the other, so that one at a time holds memory; ``moved``: bytes an episode."""
        times: dict[str, float] = {}
        for name, make in makers.items():
            if time.monotonic() > self.deadline:
                print(f"{what}, B = {B}: {name}: no time left")
                continue
            try:
                times[name] = statistics.median(self.seconds(make()))
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


def many(x: Tensor, B: int, axis: int = 0) -> Tensor:
    """B episodes, those of x again and again."""
    repeats = [1] * x.dim()
    repeats[axis] = -(-B // x.shape[axis])
    return x.repeat(repeats).narrow(axis, 0, B).contiguous()


def triton_step(*args: Any) -> tuple[Tensor, ...]:
    """The public operation."""
    *tensors, num_least_used, _, decay = args
    return functional.lrua_step(*tensors, num_least_used=num_least_used, decay=decay, backend="triton")


def step_runs(step: Callable[..., Sequence[Tensor]], B: int, device: str, dtype: torch.dtype) -> tuple[Run, Run]:
    """Forward without gradients, and forward and backward."""
    shape = Shape(min(B, DRAWN), N, W, R, R)
    leaves = [many(x.to(device, dtype), B).requires_grad_() for x in arguments(STEP, shape).values()]
    gradients = [many(x.to(device, dtype), B) for x in cotangents(STEP, shape).values()]

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return step(*leaves, None, R, False, 0.99)

    def both() -> Sequence[Tensor]:
        outputs = step(*leaves, None, R, False, 0.99)
        return [*outputs, *torch.autograd.grad(list(outputs), leaves, gradients)]

    return forward, both


def checked_steps(device: str) -> dict[str, Callable[..., Sequence[Tensor]]]:
    """Every way to do a step whose results obey the rule."""
    steps = {"triton": triton_step, "reference": reference.lrua_step, "products": baselines.lrua_step}
    steps["compiled"] = torch.compile(reference.lrua_step, dynamic=False)
    names = [*OUTPUTS["lrua_step"], *(f"grad {k}" for k in ("memory", "read_weights", "usage", "key", "add", "gate"))]
    truth, base = (step_runs(reference.lrua_step, CHECKED, device, d)[1] for d in (torch.float64, torch.float32))
    runs = {k: step_runs(step, CHECKED, device, torch.float32)[1] for k, step in steps.items()}
    return {k: steps[k] for k in check(names, runs, truth, base)}


def bench_step(bench: Bench, steps: dict[str, Callable[..., Sequence[Tensor]]], B: int) -> None:
    """The fused step alone."""
    torch._dynamo.reset()
    for i, (what, moved) in enumerate(
        (("step forward", FORWARD_BYTES), ("step with gradient", FORWARD_BYTES + BACKWARD_BYTES))
    ):
        makers: dict[str, Callable[[], Run]] = {
            k: lambda step=step, i=i: step_runs(step, B, bench.device, torch.float32)[i]  # type: ignore[misc]
            for k, step in steps.items()
        }
        bench.compare(what, B, makers, "triton", moved)


def bench_scan(bench: Bench, B: int, length: int) -> None:
    """The scan beside as many fused steps."""
    shape = Shape(min(B, DRAWN), N, W, R, R, T=length)
    given, wanted = arguments(SCAN, shape), cotangents(SCAN, shape)
    leaves = [many(x.to(bench.device), B, int(x.shape[0] == length)).requires_grad_() for x in given.values()]
    gradients = [many(x.to(bench.device), B, int(k == "reads")) for k, x in wanted.items()]

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
    makers: dict[str, Callable[[], Run]] = {"scan": lambda: scanned, "steps": lambda: stepped}
    if bench.device == "cuda":
        makers |= {"scan, graph": lambda: captured(scanned), "steps, graph": lambda: captured(stepped)}
    bench.compare(f"scan, T = {length}", B, makers, "scan", moved)


class Model(nn.Module):
    """A MANN, or an LSTM of the width that its controller sees, under a linear head."""

    def __init__(self, memory: str) -> None:
        super().__init__()
        self.body = nn.LSTM(F + R * W, D) if memory == "lstm" else MANN(F, D, N, W, R, memory_init="uniform")
        self.head = nn.Linear(D if memory == "lstm" else D + R * W, C)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs)[0])
        return logits


def training(
    model: nn.Module, inputs: Tensor, labels: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> Run:
    """Forward, cross entropy, backward."""
    parameters = list(model.parameters())

    def run() -> Sequence[Tensor]:
        loss = nnf.cross_entropy((forward or model)(inputs).flatten(0, 1), labels.flatten())
        return [loss, *torch.autograd.grad(loss, parameters)]

    return run


def agree(model: Model, device: str) -> bool:
    """Whether a training step on the kernels gives the reference's loss and gradients: whole episodes in float64."""
    inputs, labels = torch.rand(T, 2, F, device=device).double(), torch.randint(C, (T, 2), device=device)
    found = []
    for backend in ("triton", "reference"):
        model.body.cell.backend = backend
        found.append({str(i): x.detach() for i, x in enumerate(training(model, inputs, labels)())})
    worst = max(relative_errors(*found).values())
    if worst > 1e-8:
        print(f"training: nothing is timed, results differ by {worst:.1e}")
    return worst <= 1e-8


def bench_episode(bench: Bench, model: Model, B: int) -> None:
    """A training step of the standard episode."""
    lstm, cell = Model("lstm").to(bench.device), model.body.cell
    torch._dynamo.reset()
    inputs, wide = (torch.rand(T, B, width, device=bench.device) for width in (F, F + R * W))
    labels = torch.randint(C, (T, B), device=bench.device)

    def on(backend: str) -> Run:
        run = training(model, inputs, labels)

        def chosen() -> Sequence[Tensor]:
            cell.backend = backend
            return run()

        return chosen

    def compiled() -> Run:
        step = torch.compile(cell, dynamic=False)

        def loop(inputs: Tensor) -> Tensor:
            outputs, state = [], cell.initial_state(B)
            for x in inputs:
                output, state = step(x, state)
                outputs.append(output)
            logits: Tensor = model.head(torch.stack(outputs))
            return logits

        cell.backend = "reference"
        return training(model, inputs, labels, loop)

    makers: dict[str, Callable[[], Run]] = {
        "triton": lambda: on("triton"),
        "reference": lambda: on("reference"),
        "compiled": compiled,
        "cuDNN LSTM": lambda: training(lstm, wide, labels),
    }
    if bench.device == "cuda":
        graphs = {f"{k}, graph": lambda make=make: captured(make()) for k, make in makers.items()}  # type: ignore[misc]
        makers |= graphs
    bench.compare(f"training, T = {T}", B, makers, "triton", T * (FORWARD_BYTES + BACKWARD_BYTES))


def contest(bench: Bench, tiny: bool, save: Callable[[], None]) -> None:
    """Everything, the largest sizes first, saved after each."""
    steps = checked_steps(bench.device)
    for B in (2, 3) if tiny else (16384, 4096, 256, 16):
        bench_step(bench, steps, B)
        save()
    bench_scan(bench, 2 if tiny else 4096, 3 if tiny else 50)
    save()
    torch.manual_seed(0)
    model = Model("mann").to(bench.device)
    if not tiny and agree(copy.deepcopy(model).double(), bench.device):
        for B in (4096, 256):
            bench_episode(bench, model, B)
            save()
