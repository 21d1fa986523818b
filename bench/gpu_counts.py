"""Instruction counts beside measured times: what the standard step and scan must take at least, and what they took.

The counts are those of ``python -m tests.ptx.counts``, which runs the compiled kernels on the CPU. The times are those
of the benchmarks of the GPU check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CLOCK = 1.755e9  # of an H100 and an H200, where PyTorch does not say it
SECONDS = 300
CALLS = {  # what a benchmark times, by how its name begins -> the kernels that its call launches, by backend
    "step forward": {"triton": ("step_forward",), "cuda": ("lrua_step",)},
    "step with gradient": {
        "triton": ("step_forward", "step_backward"),
        "cuda": ("lrua_step", "lrua_step_backward"),
    },
    "scan": {"triton": ("scan_forward", "scan_backward"), "cuda": ("lrua_scan", "lrua_scan_backward")},
}


class Gpu(NamedTuple):
    """What turns counts into times: bandwidth in bytes a second, clock in cycles a second."""

    arch: int
    multiprocessors: int
    clock: float
    bandwidth: float


def gpu_at_hand(bandwidth: float) -> Gpu:
    """The GPU of this machine. ``bandwidth``: that of a large copy."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    clock = 1e3 * getattr(properties, "clock_rate", 0) or CLOCK  # PyTorch gives it in kHz, from 2.6 on
    return Gpu(10 * properties.major + properties.minor, properties.multi_processor_count, clock, bandwidth)


def count(arch: int) -> tuple[list[dict[str, Any]], str]:
    """The counts of the standard kernels, compiled for a GPU and run on the CPU, or why there are none."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "counts.json"
        command = [sys.executable, "-m", "tests.ptx.counts", "--gpu", str(arch), "--json", str(file)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return [], f"the counts took more than {SECONDS} s"
        if done.returncode:
            return [], (done.stderr.strip() or "no counts").splitlines()[-1]
        kernels: list[dict[str, Any]] = json.loads(file.read_text())["kernels"]
    return kernels, ""


def compare(kernels: Sequence[Mapping[str, Any]], gpu: Gpu, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row for each call and backend, in ns of an episode and a step, and what the counts are based on.

    rows: of the benchmarks. The time is that of the largest batch, of the faster of a call and its CUDA graph; None
    where it was not measured.
    """
    counted = {(kernel["backend"], kernel["kernel"]): kernel for kernel in kernels}
    found = []
    for call, backends in CALLS.items():
        for backend, names in backends.items():
            parts = [counted[backend, name] for name in names if (backend, name) in counted]
            if len(parts) < len(names):
                continue
            of_cycle = 1e9 / (gpu.multiprocessors * gpu.clock)
            least = {
                "issue_ns": sum(x["issue"] for x in parts) * of_cycle,
                "shared_ns": sum(x["shared"] for x in parts) * of_cycle,
                "dram_ns": sum(x["bytes"] for x in parts) / gpu.bandwidth * 1e9,
            }
            least["bound_ns"] = sum(max(_ns(x, gpu, of_cycle)) for x in parts)  # kernels run one after the other
            found.append({"what": call, "name": backend, **least, **_measured(call, backend, rows)})
    return {"gpu": gpu._asdict(), "rows": found}


def _ns(kernel: Mapping[str, Any], gpu: Gpu, of_cycle: float) -> tuple[float, float, float]:
    return kernel["issue"] * of_cycle, kernel["shared"] * of_cycle, kernel["bytes"] / gpu.bandwidth * 1e9


def _measured(call: str, backend: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The batch and the time of an episode and a step."""
    timed = [row for row in rows if row["what"].startswith(call) and row["name"] in (backend, f"{backend}, graph")]
    if not timed:
        return {"B": None, "measured_ns": None}
    B = max(row["B"] for row in timed)
    what = next(row["what"] for row in timed if row["B"] == B)
    steps = int(what.rpartition("T = ")[2]) if "T = " in what else 1
    return {"B": B, "measured_ns": min(row["seconds"] for row in timed if row["B"] == B) / (B * steps) * 1e9}


def table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the table of a report that has counts."""
    head = [
        f"{report['gpu']}, ns an episode and step",
        "backend",
        "issue",
        "shuffles + shared",
        "DRAM",
        "at least, by instruction count",
        "measured",
        "measured / at least",
    ]
    lines = []
    for row in report["counts"]["rows"]:
        least = [f"{row[k]:.1f}" for k in ("issue_ns", "shared_ns", "dram_ns", "bound_ns")]
        time = row["measured_ns"]
        measured = ["", ""] if time is None else [f"{time:.1f} (B = {row['B']})", f"{time / row['bound_ns']:.1f}"]
        lines.append([row["what"], row["name"], *least, *measured])
    return head, lines
