"""Check, then time in turn, then say where: what every benchmark here shares."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mannkern
from mannkern import native
from tests.helpers import assert_accurate, relative_errors

ROOT = Path(__file__).resolve().parents[1]
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # what else the machine was doing
SAMPLE = 0.01  # seconds; shorter calls are timed several at once
N, W, R, D, F, T, C = 128, 40, 4, 200, 405, 50, 5  # the standard episode

Run = Callable[[], Sequence[Tensor]]


def options(description: str | None, batch: list[int], repeats: int) -> argparse.Namespace:
    """The command line: --batch, --threads, --repeats, --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=batch, metavar="B", help="episodes at a time")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="COUNT", help="threads")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="COUNT", help="rounds a median is taken of")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    return parser.parse_args()


def memory_flops(N: int = N, W: int = W, R: int = R) -> int:
    """Forward pass of one memory step: write, dot, norm and read over the memory, a dozen operations on each weight."""
    return N * W * (6 * R + 2) + 12 * N * R


def step_bytes(N: int = N, W: int = W, R: int = R) -> int:
    """What a float32 step with its gradient must move: memory and its gradient in and out, weights, vectors."""
    return 4 * (5 * N * W + 6 * R * N + 4 * N + 6 * R * W)


def product_rate() -> float:
    """FLOP/s of a large float32 matrix product on the threads in use, the better of torch's two libraries."""
    a = torch.randn(768, 768)
    runs: dict[str, Run] = {"default": lambda: [a @ a]}
    if torch.backends.mkldnn.is_available():
        runs["oneDNN"] = lambda: [torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], "")]
    return 2 * 768**3 / min(min(samples) for samples in interleave(runs, 10).values())


def copy_rate() -> float:
    """Bytes/s that a large copy moves, read and written, on the threads in use."""
    a, b = torch.randn(1 << 24), torch.empty(1 << 24)
    return 2 * 4 * a.numel() / min(interleave({"copy": lambda: [b.copy_(a)]}, 10)["copy"])


def interleave(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Seconds a call, ``repeats`` samples of each, in turn, after warm-up."""
    counts = {}
    for name, run in runs.items():
        run()
        begin = time.perf_counter()
        run()
        counts[name] = max(1, math.ceil(SAMPLE / (time.perf_counter() - begin)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(repeats):
        for name in order:
            run, count = runs[name], counts[name]
            begin = time.perf_counter()
            for _ in range(count):
                run()
            times[name].append((time.perf_counter() - begin) / count)
        order.append(order.pop(0))  # nobody always follows the same one
    return times


class Report:
    """Rows of a benchmark, printed as they come, and what was not timed."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name, self.json = name, arguments.json
        self.rows: list[dict[str, Any]] = []
        self.not_timed: list[dict[str, Any]] = []
        self.differs = False
        self.where: dict[str, Any] = {}

    def begin(self, B: int, threads: int, more: dict[str, Any] | None = None) -> None:
        """Another configuration, compiled anew; ``more`` says what else is particular to it."""
        torch.set_num_threads(threads)
        torch._dynamo.reset()
        self.where = {"B": B, "threads": threads, **(more or {})}

    def check(self, runs: dict[str, Run], names: list[str], truth: Run, reference: Run | None) -> set[str]:
        """Those that may be timed: their results obey the tests' rule of accuracy beside ``truth`` and ``reference``.

        Without ``reference``, ``truth`` and they are float64 and agree to 1e-8.
        """
        expected = _named(names, truth())
        allowed = None if reference is None else _named(names, reference())
        good = set()
        for name, run in runs.items():
            try:
                got = _named(names, run())
            except Exception as error:  # a compiler that is missing or fails, in whatever way it does
                self.drop(name, f"cannot run: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
                continue
            try:
                if allowed is not None:
                    assert_accurate(got, expected, allowed)
                elif (worst := max(relative_errors(got, expected).values())) > 1e-8:
                    raise AssertionError(f"relative error {worst:.1e}")
                good.add(name)
            except AssertionError as error:
                self.differs = True
                self.drop(name, f"differs from the reference: {error}")
        return good

    def drop(self, name: str, reason: str) -> None:
        """Say why ``name`` is not timed."""
        self.not_timed.append({**self.where, "name": name, "reason": reason})
        print(f"{name} is not timed. It {reason}", flush=True)

    def add(self, times: dict[str, list[float]], bases: list[str], flops: float, moved: float = 0) -> None:
        """Print and keep the medians of one configuration, as multiples of ``bases`` and beside the bound.

        The bound of an episode is that of its ``flops`` or, where that is more, of the bytes ``moved``.
        """
        B, medians = self.where["B"], {name: statistics.median(samples) for name, samples in times.items()}
        rate = product_rate()
        bound = max(flops / rate, moved / copy_rate() if moved else 0)
        where = ", ".join(f"{name} = {value}" for name, value in self.where.items())
        print(f"\n{where}; a matrix product runs at {rate / 1e9:.0f} GFLOP/s")
        columns = ["us/episode", "episodes/s", *(f"x {base}" for base in bases)]
        print("".join([f"{'':16}", *(f"{column:>14}" for column in columns)]))
        for name, median in {**medians, **({"bound": bound * B} if bound else {})}.items():
            ratios = {base: median / medians[base] for base in bases if base in medians}
            cells = [f"{median / B * 1e6:14.1f}", f"{B / median:14.0f}", *(f"{x:14.2f}" for x in ratios.values())]
            print(f"{name:16}{''.join(cells)}", flush=True)
            row = {**self.where, "name": name, "seconds": median, "episodes_per_second": B / median, "ratio_to": ratios}
            if name in times:
                low, _, high = statistics.quantiles(times[name], n=4) if len(times[name]) > 1 else [median] * 3
                row |= {"quartiles": [low, high], "samples": len(times[name])}
            self.rows.append(row)

    def end(self) -> None:
        """Write the results; exit with 1 where something differed."""
        if self.json:
            content = {"benchmark": self.name, **surroundings(), "rows": self.rows, "not_timed": self.not_timed}
            write(self.json, content)
            print(f"\nwritten: {self.json}")
        sys.exit(int(self.differs))


def write(file: Path, content: dict[str, Any]) -> None:
    """Beside, then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(file)


def captured(run: Run) -> Run:
    """The same as a CUDA graph: what it returns is written to at each call."""
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


def surroundings() -> dict[str, Any]:
    """Machine, versions, commit and command."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "load_before": LOAD,
        "versions": {
            "mannkern": mannkern.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "isa": native.isa(),
        },
        "commit": _git("rev-parse", "HEAD") + (" with changes" if _git("status", "--porcelain", "-uno") else ""),
    }


def _named(names: list[str], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name: x.detach() for name, x in zip(names, tensors, strict=True)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown" if arguments[0] == "rev-parse" else ""
    return found.stdout.strip()
