"""Episodes a second of `python -m mannkern train glyphs` on one process and on several of `torchrun`, on this machine.

    python bench/scaling.py --json scaling.json

Each line is a training of its own, timed by the run's own journal: the median over its lines but the first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.options import add_json, check
from mannkern.files import write_json

STEPS = {16: 90, 64: 36, 256: 12}  # by batch size, which all processes share
WAYS = ((1, 1), (1, 2), (2, 1))  # processes and threads of each


def rate(batch_size: int, processes: int, threads: int, steps: int) -> float:
    """Episodes a second."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        start = [*torchrun, "-m", "--", "mannkern"] if processes > 1 else ["-m", "mannkern"]
        options = f"--batch-size {batch_size} --threads {threads} --steps {steps} --log-every {steps // 6}"
        rest = ["--validate-every", "1000", "--no-evaluate", "--run", f"{folder}/run"]
        command = [sys.executable, *start, "train", "glyphs", *options.split(), *rest]
        subprocess.run(command, check=True, capture_output=True)
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    return median(line["episodes_per_second"] for line in lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_json(parser)
    options = parser.parse_args()
    check(parser, options)
    records = []
    for batch_size, steps in STEPS.items():
        for processes, threads in WAYS:
            found = rate(batch_size, processes, threads, steps)
            records.append({"batch_size": batch_size, "processes": processes, "threads": threads, "rate": found})
            print(f"B = {batch_size}, {processes} x {threads} threads: {found:,.0f} episodes/s", flush=True)
        if options.json is not None:  # after every figure, since the next training may fail or be stopped
            write_json(options.json, records)


if __name__ == "__main__":
    main()
