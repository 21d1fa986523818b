"""Peak resident memory of a training step, above that at its start, each in a process of its own.

A training step at T = 50 and B = 256 of MANN, of the same in eager PyTorch and of torch.nn.LSTM, and MANN without
gradients; lrua_scan with its gradient at T = 50 and 1000, B = 16, and in eager PyTorch. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import add_json, check
from mannkern.benchmark import contestants, machine, workloads
from mannkern.benchmark.timing import Run

CASES = (("cpp", 50, 256), ("cpp, no gradient", 50, 256), ("reference", 50, 256), ("lstm", 50, 256))
SCANS = (("scan", 50, 16), ("scan", 1000, 16), ("scan, reference", 50, 16), ("scan, reference", 1000, 16))


def task(name: str, T: int, B: int) -> Run:
    """The call that is measured, by its name in the results."""
    contestant, _, detail = name.partition(", ")
    if contestant == "scan":
        (entrant,) = contestants.of("lrua_scan", names=[detail or "cpp"])
        return entrant.build(workloads.lrua_scan(T, B))
    (entrant,) = contestants.of("mann", names=[contestant])
    return entrant.build(workloads.mann(B, T, gradient=detail != "no gradient"))


def peak(name: str, T: int, B: int) -> int:
    """Peak bytes of the first call at this size in this process, above those before the call."""
    torch.set_num_threads(1)
    task(name, 2, 2)()  # so that libraries are loaded, and buffers of the threads are there
    run, status = task(name, T, B), Path("/proc/self/status")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is counted from here
    run()
    highest = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(highest.split()[1]) * 1024 - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_json(parser)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    check(parser, options)
    if options.one:
        name, steps, B = options.one
        print(peak(name, int(steps), int(B)))
        return
    rows, about = [], machine.surroundings()
    for name, steps, B in (*CASES, *SCANS):
        command = [sys.executable, __file__, "--one", name, str(steps), str(B)]
        size = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"name": name, "T": steps, "B": B, "bytes": size})
        print(f"{name:18} T = {steps:4}, B = {B:3}: {size / 2**20:8.1f} MiB", flush=True)
        if options.json:  # after every row, since the next one may fail or be stopped
            machine.write(options.json, {"benchmark": "memory", **about, "rows": rows})
    if options.json:
        print(f"\nwritten: {options.json}")


if __name__ == "__main__":
    main()
