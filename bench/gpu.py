"""The GPU check: build, GPU tests, ``verify``, then benchmarks, into bench/results/<gpu>.json. Installs nothing.

Benchmarks: the fused step (forward, and with its gradient) by batch size, the scan, and a training step of the standard
episode; beside the eager reference, torch.compile of it, eager matrix products and, for the episode, cuDNN's LSTM. The
bound is the bytes that must move (docstrings of the kernels) at the bandwidth of a large copy, measured in the run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import baselines, measure
from bench.measure import C, D, F, N, R, T, W
from mannkern import MANN, functional
from mannkern.reference import lrua as reference
from mannkern.verification.accuracy import errors
from mannkern.verification.cases import CASES, OUTPUTS, Shape, arguments, cotangents

STEP, SCAN = CASES["step"], CASES["scan"]
FORWARD_BYTES = 8 * N * W + 12 * R * N + 8 * N + N + 4 * (3 * R * W + R)
BACKWARD_BYTES = 12 * N * W + 16 * R * N + 8 * N + N + 4 * (5 * R * W + 2 * R)
CHECKED = 64  # episodes whose results are compared before anything is timed
Run = Callable[[], Sequence[Tensor]]


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


def captured(run: Run) -> Run:
    """The same as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return results

    return replay


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


def build() -> str:
    """The compiled library for the Python that runs this; why not, where it cannot be had."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"MANNKERN_FORCE_BUILD": "1"}, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stderr[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--minutes", type=float, default=8, help="when to begin nothing new")
    parser.add_argument("--skip", nargs="*", default=[], choices=["build", "checks", "verify", "bench"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small sizes, and the CPU where no GPU is")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU: torch.cuda.is_available() is False")
        return 1
    device = "cuda" if torch.cuda.is_available() else "cpu"
    deadline = time.monotonic() + 60 * options.minutes
    name = torch.cuda.get_device_name().lower().replace(" ", "-") if device == "cuda" else "rehearsal"
    file = options.out / f"{name}.json"
    content: dict[str, Any] = {"benchmark": "gpu", **measure.surroundings(), "gpu": name, "triton": _triton_version()}
    failed = []
    if "build" not in options.skip:
        content["build"] = build() or "built"
        print(f"compiled library: {content['build']}", flush=True)
    if "checks" not in options.skip and device == "cuda":
        from tests.gpu.checks import run_all

        content["checks"] = run_all()
        failed += [f"check {k}" for k, said in content["checks"].items() if said]
    if "verify" not in options.skip:
        from mannkern.verification.verify import contenders, verify

        rows = [row for b, d in contenders([device]) for row in verify(b, d, seed=int(time.time()))]
        content["verify"] = [row._asdict() | {"good": row.good} for row in rows]
        failed += [f"verify {row.operation} {row.dtype}" for row in rows if not row.good]
        print(f"verify: {sum(row.good for row in rows)} of {len(rows)} rows are right", flush=True)
    if "bench" not in options.skip:
        bench = Bench(device, options.repeats, deadline)
        content["copy_bandwidth"] = bench.bandwidth
        content["rows"] = bench.rows
        bench_step(bench, [2, 3] if options.tiny else [16, 256, 4096, 16384])
        bench_scan(bench, 2 if options.tiny else 4096, 3 if options.tiny else 50)
        if not options.tiny:
            bench_episode(bench, [256, 4096])
    measure.write(file, content)
    print(f"written: {file}\n" + "\n".join(f"FAILED: {what}" for what in failed))
    return int(bool(failed))


def _triton_version() -> str:
    import triton

    version: str = triton.__version__
    return version


if __name__ == "__main__":
    sys.exit(main())
