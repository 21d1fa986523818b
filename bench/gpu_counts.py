"""Instruction counts beside measured times: what the standard step and scan must take at least, and what they took.

The counts are those of ``python -m tests.ptx.counts``, which runs the compiled kernels on the CPU. The times are those
of the benchmarks of the GPU check. ``python bench/gpu_counts.py FILE.json`` adds the counts to a file of these on any
machine that has the compilers, since a GPU's time is too dear for them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.gpu_pool import run_command

CLOCK = 1.755e9  # of an H100 and an H200, where PyTorch does not say it
SECONDS = 300  # that the counts may take beside a GPU
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


def count(arch: int, seconds: float | None = SECONDS) -> tuple[list[dict[str, Any]], str]:
    """The counts of the standard kernels, compiled for a GPU and run on the CPU, or why there are none.

    seconds: that they may take; None: any number.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "counts.json"
        command = [sys.executable, "-m", "tests.ptx.counts", "--gpu", str(arch), "--json", str(file)]
        code, said = run_command(command, seconds, environment)
        if code is None:
            return [], f"the counts took more than {seconds:.0f} s"
        if code:
            return [], (said.strip() or "no counts").splitlines()[-1]
        kernels: list[dict[str, Any]] = json.loads(file.read_text())["kernels"]
    return kernels, ""


def of_report(report: Mapping[str, Any], seconds: float | None = SECONDS) -> dict[str, Any]:
    """The entries that a report of the GPU check gets: its "counts", which are printed too, or why there are none."""
    from bench.table import markdown
    from mannkern.benchmark.machine import surroundings

    gpu = Gpu(**report["hardware"])
    kernels, reason = count(gpu.arch, seconds)
    if reason:
        print(f"no instruction counts: {reason}")
        return {"no_counts": reason}
    found = compare(kernels, gpu, report["rows"]) | {"commit": surroundings()["commit"]}
    print(markdown(*table({"gpu": report["gpu"], "counts": found})), flush=True)
    return {"counts": found}


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


def arguments(given: Sequence[str] | None = None) -> tuple[Path, dict[str, Any], float | None]:
    """The file of the command line, its content, and the seconds that the counts may take."""
    parser = argparse.ArgumentParser(description="Adds instruction counts to the JSON of a GPU; needs no GPU.")
    parser.add_argument("file", type=Path, help="what bench/gpu.py wrote")
    parser.add_argument("--seconds", type=float, help="that the counts may take (default: any number)")
    options = parser.parse_args(given)
    if options.seconds is not None and not options.seconds > 0:
        parser.error(f"--seconds: got {options.seconds}, need more than 0")
    try:
        report = json.loads(options.file.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"file: got {options.file}, need a JSON of bench/gpu.py ({error})")
    missing = [name for name in ("gpu", "hardware", "rows") if not isinstance(report, dict) or name not in report]
    if missing:
        got = f"got {options.file} without {', '.join(missing)}"
        parser.error(f"file: {got}, need one that the stage bench of bench/gpu.py wrote")
    return options.file, report, options.seconds


def main(given: Sequence[str] | None = None) -> int:
    """Add the counts to a file. Returns 1, and leaves the file as it is, where there are none."""
    from bench.gpu_jobs import not_run
    from mannkern.benchmark.machine import write

    file, report, seconds = arguments(given)
    found = of_report(report, seconds)
    if "counts" not in found:
        return 1
    report.pop("no_counts", None)
    report |= found
    write(file, report | {"not_run": not_run(report)})
    print(f"written: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
