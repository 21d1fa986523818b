"""Time of a call on the CPU and on a GPU, and the machine's rates of products and copies."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Run = Callable[[], Sequence[Tensor]]
SAMPLE = 0.01  # seconds; shorter calls are timed several at once


def interleave(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Seconds a call on the CPU: ``repeats`` samples of each run, in turn, after warm-up."""
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
        order = order[1:] + order[:1]  # so that no run always follows the same one
    return times


def gpu_seconds(run: Run, repeats: int) -> list[float]:
    """Seconds of each of ``repeats`` calls after warm-up, by events on the GPU."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in pairs:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def captured(run: Run) -> Run:
    """``run`` as a CUDA graph: every call writes to the tensors that it returns."""
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


def product_rate() -> float:
    """FLOP/s of a large float32 matrix product on the CPU threads in use, the better of torch's two libraries."""
    a = torch.randn(768, 768)
    runs: dict[str, Run] = {"default": lambda: [a @ a]}
    if torch.backends.mkldnn.is_available():
        runs["oneDNN"] = lambda: [torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], "")]
    return 2 * 768**3 / min(min(samples) for samples in interleave(runs, 10).values())


def copy_rate(device: str) -> float:
    """Bytes/s that a large copy moves, read and written."""
    on_gpu = torch.device(device).type == "cuda"
    size = 1 << (28 if on_gpu else 24)
    a, b = torch.randn(size, device=device), torch.empty(size, device=device)

    def copy() -> list[Tensor]:
        return [b.copy_(a)]

    seconds = statistics.median(gpu_seconds(copy, 20)) if on_gpu else min(interleave({"copy": copy}, 10)["copy"])
    return 2 * a.numel() * a.element_size() / seconds
