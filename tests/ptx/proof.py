"""Runs the whole table of compiled kernels, for several GPUs and in several ways, without a GPU: ``make gpu-proof``.

From the project's root: ``python -m tests.ptx.proof [--quick] [--gpus 90 120] [--only TEXT]``. Each result is written
to build/gpu-proof.jsonl as it comes, so that a run that was stopped goes on where it was; see record.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from pathlib import Path

from tests.ptx.build import ROOT
from tests.ptx.coverage import MISSING, every_kernel, missing
from tests.ptx.record import Key, Record, state
from tests.ptx.table import SMALL, WHOLE, Row
from tests.ptx.worker import WAYS, Result, pool, run_in_every_way

GPUS = (90, 80, 100, 120)
ROWS_OF_A_PROCESS = 100  # it keeps the kernels that it has compiled, some 5 MB a row
RECORD = ROOT / "build" / "gpu-proof.jsonl"
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
    parser.add_argument("--record", type=Path, default=RECORD, help="where results are written: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="run every row again, also where its result is recorded")
    options = parser.parse_args(arguments)
    print(PROVED.format(ways="\n".join(f"  - {way}" for way in WAYS)))
    for reason in filter(None, MISSING.values()):
        print(f"{reason}: its rows are left out\n")
    rows = [row for row in (SMALL if options.quick else WHOLE) if options.only in row.name and not missing(row)]
    began, count, bad, launched = time.perf_counter(), 0, 0, Counter[str]()
    record = Record(options.record)
    if options.fresh:
        record.forget()
    for row, gpu, results in _results(rows, options.gpus, record, options.processes):
        count += 1
        bad += not _print(row, gpu, results)
        launched.update({f"{name}, sm_{gpu}" for result in results.values() for name in result.kernels})
    expected = {f"{name}, sm_{gpu}" for gpu in options.gpus for name in every_kernel(gpu)}
    absent = set() if options.only or options.quick else expected - launched.keys()
    print("".join(f"BAD  never launched: {name}\n" for name in sorted(absent)))
    seconds = time.perf_counter() - began
    print(f"{count} rows, each in {len(WAYS)} ways: {bad} bad; {seconds:.0f} seconds")
    print(f"{len(launched)} of {len(expected)} kernels launched (a kernel counts once for each GPU)")
    return int(bool(bad or absent or not count))


def _results(
    rows: list[Row], gpus: list[int], record: Record, processes: int
) -> Iterator[tuple[Row, int, dict[str, Result]]]:
    """The results of every row on every GPU: those that are recorded, then the others as they come."""
    wanted: dict[Key, Row] = {(row.name, gpu, state(row)): row for gpu in gpus for row in rows if row.runs_on(gpu)}
    for key in wanted.keys() & record.results.keys():
        yield wanted[key], key[1], record.results[key]
    missing = [key for key in wanted if key not in record.results]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} rows are in {record.path}, {len(missing)} are run now")
    rows_of_pool = processes * ROWS_OF_A_PROCESS
    for some in (missing[k : k + rows_of_pool] for k in range(0, len(missing), rows_of_pool)):
        with pool(processes) as executor:
            running = {executor.submit(run_in_every_way, wanted[key], key[1]): key for key in some}
            for future in as_completed(running):
                key, (results, seconds) = running[future], future.result()
                record.add(key, results, seconds)
                yield wanted[key], key[1], results


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
