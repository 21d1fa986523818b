"""Runs the whole table of compiled kernels, for several GPUs and in several ways, without a GPU: ``make gpu-proof``.

From the project's root: ``python -m tests.ptx.proof [--quick] [--gpus 90 120] [--only TEXT]``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.ptx.coverage import MISSING, every_kernel, missing
from tests.ptx.table import SMALL, WHOLE, Row
from tests.ptx.worker import WAYS, Result, pool, run_in_every_way

GPUS = (80, 90, 100, 120)
PROVED = """\
Each row runs compiled kernels, forward and backward, as PTX on the CPU: what Triton and nvcc compiled for the GPU is
executed lane by lane, with blocks and warps in random order. A row is good if every result keeps the accuracy rule
beside the float64 reference, or is equal bit for bit where the check says so, and if there was no race, no access out
of bounds, no undefined value that matters and no deadlock. It runs in three ways:
{ways}
Not proved: NVIDIA's assembler and the machine itself, its caches, its latency and a memory order weaker than that of
the program within a warp. docs/verification.md says more.
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a row is bad, if a kernel was not launched, or if nothing could be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small table of make test")
    parser.add_argument("--gpus", nargs="+", type=int, default=list(GPUS), help="90 for sm_90; all four by default")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one for each core by default")
    options = parser.parse_args(arguments)
    print(PROVED.format(ways="\n".join(f"  - {way}" for way in WAYS)))
    for reason in filter(None, MISSING.values()):
        print(f"{reason}: its rows are left out\n")
    rows = [row for row in (SMALL if options.quick else WHOLE) if options.only in row.name and not missing(row)]
    began, bad, launched = time.perf_counter(), 0, Counter[str]()
    with pool(options.processes) as executor:
        for gpu in options.gpus:
            for row, results in zip(rows, executor.map(run_in_every_way, rows, [gpu] * len(rows))):
                bad += not _print(row, gpu, results)
                launched.update({f"{name}, sm_{gpu}" for result in results.values() for name in result.kernels})
    expected = {f"{name}, sm_{gpu}" for name in every_kernel() for gpu in options.gpus}
    absent = set() if options.only or options.quick else expected - launched.keys()
    print("".join(f"BAD  never launched: {name}\n" for name in sorted(absent)))
    seconds = time.perf_counter() - began
    print(f"{len(rows) * len(options.gpus)} rows, each in {len(WAYS)} ways: {bad} bad; {seconds:.0f} seconds")
    print(f"{len(launched)} of {len(expected)} kernels launched (a kernel counts once for each GPU)")
    return int(bool(bad or absent or not rows))


def _print(row: Row, gpu: int, results: dict[str, Result]) -> bool:
    wrong = {way: result.wrong for way, result in results.items() if result.wrong}
    figures = next(iter(results.values())).figures
    print(f"{'BAD ' if wrong else 'good'} sm_{gpu:<3} {row.name:66} {figures}", flush=True)
    for way, sentences in wrong.items():
        print("\n".join(_lines(way, sentences)), flush=True)
    return not wrong


def _lines(way: str, sentences: Iterable[str]) -> Iterable[str]:
    return (f"       {way}: {sentence}" for sentence in sentences)


if __name__ == "__main__":
    sys.exit(main())
