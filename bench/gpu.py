"""The GPU check: build, checks on the GPU, ``verify``, benchmarks, into bench/results/<gpu>.json. Installs nothing.

Compilers take most of the time of the checks, so several processes run them side by side; the benchmarks come after
them, alone on the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

STAGES = ("build", "checks", "verify", "bench", "sanitizer")
CONTESTS = ("mann", "step", "scan", "copy", "ntm", "large")  # gpu_contests has them, but needs the compiled library


def build() -> tuple[bool, str]:
    """Build both compiled libraries for this Python. Returns whether that worked, and what the build printed."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"MANNKERN_FORCE_BUILD": "1"}, capture_output=True, text=True
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith("mannkern: no")]
    if done.returncode:
        return False, done.stderr[-2000:]
    return True, "; ".join(warnings) or "built"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
    parser.add_argument("--out", type=Path, default=out, help="folder for the JSON (default: $OUT or bench/results)")
    parser.add_argument("--minutes", type=float, default=8, help="time after which nothing new begins")
    parser.add_argument("--check-minutes", type=float, default=4, help="of which the checks may take so many")
    parser.add_argument("--only", nargs="+", default=STAGES, choices=STAGES, help="stages")
    parser.add_argument("--contests", nargs="+", default=CONTESTS, choices=CONTESTS, help="benchmarks (default: all)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal with small sizes, which also runs on a CPU")
    options = parser.parse_args(given)
    if options.repeats < 1:
        parser.error(f"--repeats: got {options.repeats}, need at least 1")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out: got {options.out}, need a folder")
    return options


def main() -> int:
    options = arguments()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU: torch.cuda.is_available() is False")
        return 1
    begin = time.monotonic()
    built, message = build() if "build" in options.only else (True, "not asked for")
    print(f"compiled libraries: {message}", flush=True)
    from bench import gpu_contests, gpu_jobs, gpu_results  # they import mannkern, which loads what was just built
    from mannkern.benchmark import harness, machine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "rehearsal" if options.tiny else torch.cuda.get_device_name().lower().replace(" ", "-")
    file = options.out / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    content: dict[str, Any] = {"benchmark": "gpu", **machine.surroundings(), "gpu": name, "triton": _triton_version()}
    content |= {"build": message} if "build" in options.only else {}
    names = [name for name in CONTESTS if name in options.contests]
    jobs = gpu_jobs.jobs(device, options.only, names, options.tiny)
    ran = {f"{stage} {name}" for stage, name, *_ in jobs}

    def save() -> dict[str, Any]:
        """Write what is there so far, since the next stage may take too long. Returns what is in the file now."""
        both = gpu_results.merged(before, content, ran)
        both["failed"] = ([] if built else ["build"]) + gpu_jobs.failures(both)
        machine.write(file, both)
        return both

    content |= gpu_jobs.summary(gpu_jobs.run(jobs, begin + 60 * options.check_minutes))
    unfit = content.pop("unfit")
    save()
    for what in gpu_jobs.failures(content):  # the next stage may not come to its end
        print(f"FAILED so far: {what}", flush=True)
    if "bench" in options.only:
        report = harness.Report("gpu", options.repeats, device, begin + 60 * options.minutes)
        content |= {"copy_bandwidth": report.copy_rate, "lstm_takes_tf32": torch.backends.cudnn.allow_tf32}
        content |= {"rows": report.rows, "not_timed": report.not_timed}
        report.not_timed += unfit
        good = {name: content["may_be_timed"].get(name, []) for name in names}
        gpu_contests.run(report, save, good, options.tiny)
    has_time = time.monotonic() < begin + 60 * options.minutes
    if not has_time:
        print("no time is left for instruction counts and the sanitizer", flush=True)
    counted = {"step", "scan"} <= {*names}  # the contests whose times stand beside the counts
    if "bench" in options.only and counted and device == "cuda" and has_time:
        content |= counts(report.copy_rate, report.rows)
    if "sanitizer" in options.only and device == "cuda" and has_time:  # last, because it takes longest
        content["checks"] |= gpu_jobs.sanitizer()
    failed = ([] if built else ["build"]) + gpu_jobs.failures(content)
    save()
    print(f"written: {file}\n" + "\n".join(f"FAILED: {what}" for what in failed))
    return int(bool(failed))


def counts(bandwidth: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Instruction counts of the standard kernels beside their times, which it also prints; or why there are none."""
    from bench import gpu_counts
    from bench.table import markdown

    gpu = gpu_counts.gpu_at_hand(bandwidth)
    kernels, reason = gpu_counts.count(gpu.arch)
    if reason:
        print(f"no instruction counts: {reason}")
        return {"no_counts": reason}
    found = gpu_counts.compare(kernels, gpu, rows)
    print(markdown(*gpu_counts.table({"gpu": torch.cuda.get_device_name(), "counts": found})), flush=True)
    return {"counts": found}


def _triton_version() -> str:
    import triton

    version: str = triton.__version__
    return version


if __name__ == "__main__":
    sys.exit(main())
