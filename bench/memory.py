"""Peak memory of a training step: how far the resident set of a process of its own rises over where it began.

A training step at T = 50 and B = 256 of MANN, of the same in eager PyTorch and of torch.nn.LSTM, and MANN without
gradients; lrua_scan with its gradient at T = 50 and 1000, B = 16, and in eager PyTorch. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import curves, measure
from bench.measure import D, F, R, W
from mannkern import MANN

CASES = (("cpp", 50, 256), ("cpp, no gradient", 50, 256), ("reference", 50, 256), ("lstm", 50, 256))
SCANS = (("scan", 50, 16), ("scan", 1000, 16), ("scan, reference", 50, 16), ("scan, reference", 1000, 16))


def task(name: str, T: int, B: int) -> Callable[[], object]:
    """What is measured."""
    if name.startswith("scan"):
        return curves.scan(T, B, "reference" if "reference" in name else "cpp")
    if name == "lstm":
        lstm, wide = nn.LSTM(F + R * W, D), torch.rand(T, B, F + R * W)
        return lambda: lstm(wide)[0].sum().backward()
    model, inputs = MANN(F, D, backend="reference" if name == "reference" else "cpp"), torch.rand(T, B, F)
    if "no gradient" in name:
        return torch.no_grad()(lambda: model(inputs))
    return lambda: model(inputs)[0].sum().backward()


def peak(name: str, T: int, B: int) -> int:
    """Bytes over the start, of the first call in this process at this size."""
    torch.set_num_threads(1)
    task(name, 2, 2)()  # libraries are loaded, buffers of the threads there
    run, status = task(name, T, B), Path("/proc/self/status")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is counted from here
    run()
    highest = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(highest.split()[1]) * 1024 - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, steps, B = options.one
        print(peak(name, int(steps), int(B)))
        return
    rows = []
    for name, steps, B in (*CASES, *SCANS):
        command = [sys.executable, __file__, "--one", name, str(steps), str(B)]
        found = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"name": name, "T": steps, "B": B, "bytes": found})
        print(f"{name:18} T = {steps:4}, B = {B:3}: {found / 2**20:8.1f} MiB", flush=True)
    if options.json:
        measure.write(options.json, {"benchmark": "memory", **measure.surroundings(), "rows": rows})
        print(f"\nwritten: {options.json}")


if __name__ == "__main__":
    main()
