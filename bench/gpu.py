"""The GPU check: build, checks on the GPU, ``verify``, benchmarks, into bench/results/<gpu>.json. Installs nothing.

Compilers take most of the time of the checks, so several processes run them side by side; the benchmarks come after
them, alone on the GPU. Exits with 1 where something is wrong, with 2 where something was not run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.gpu_pool import run_command

STAGES = ("build", "checks", "verify", "bench", "counts", "sanitizer")
CONTESTS = ("mann", "step", "scan", "copy", "ntm", "large")  # gpu_contests has them, but needs the compiled library


def build(seconds: float) -> tuple[bool, str]:
    """Build both compiled libraries for this Python, in so many seconds. Returns whether that worked, and how."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    code, said = run_command(command, seconds, os.environ | {"MANNKERN_FORCE_BUILD": "1"})
    if code is None:
        return False, f"took more than {seconds:.0f} s"
    warnings = [line for line in said.splitlines() if line.startswith("mannkern: no")]
    return code == 0, said[-2000:] if code else "; ".join(warnings) or "built"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out = Path(os.environ.get("OUT", Path(__file__).parent / "results"))
    parser.add_argument("--out", type=Path, default=out, help="folder for the JSON (default: $OUT or bench/results)")
    parser.add_argument(
        "--minutes", type=float, default=8, help="time at which all but the benchmark that is being timed ends"
    )
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
    """Returns 1 where something is wrong, else 2 where something was not run, else 0."""
    options = arguments()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU: torch.cuda.is_available() is False")
        return 1
    begin = time.monotonic()
    end = begin + 60 * options.minutes
    built, message = build(60 * options.minutes) if "build" in options.only else (True, "not asked for")
    print(f"compiled libraries: {message}", flush=True)
    from bench import gpu_jobs, gpu_results  # they import mannkern, which loads what was just built
    from mannkern.benchmark import machine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "rehearsal" if options.tiny else torch.cuda.get_device_name().lower().replace(" ", "-")
    file = options.out / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    content: dict[str, Any] = {"benchmark": "gpu", **machine.surroundings(), "gpu": name, "triton": _triton_version()}
    content |= {"build": message} if "build" in options.only else {}
    names = [name for name in CONTESTS if name in options.contests]
    jobs = gpu_jobs.jobs(device, options.only, names, options.tiny)

    def save() -> dict[str, Any]:
        """Write what is there so far, since the next stage may take too long. Returns what is in the file now."""
        both = gpu_results.merged(before, content, ended)
        both["failed"] = ([] if built else ["build"]) + gpu_jobs.failures(both)
        both["not_run"] = gpu_jobs.not_run(both)
        machine.write(file, both)
        return both

    found = gpu_jobs.run(jobs, begin + 60 * min(options.check_minutes, options.minutes))
    content |= gpu_jobs.summary(found)
    staged = {stage for stage, *_ in jobs}
    ended = gpu_jobs.finished(found) | staged
    if not options.tiny:
        asked = {"checks", "verify", "bench"} & {*options.only}
        content["unfinished"] += [f"{stage}: no jobs" for stage in sorted(asked - staged)]
    unfit = content.pop("unfit")
    save()
    for what in gpu_jobs.failures(content):  # the next stage may not come to its end
        print(f"FAILED so far: {what}", flush=True)
    if "bench" in options.only:
        good = {name: content["may_be_timed"].get(name, []) for name in names}
        time_contests(content, unfit, good, options, device, end, save)
        ended.add("timing")
    if device == "cuda":
        measured = {"step", "scan"} <= {*names}  # the contests whose times stand beside the counts
        if "counts" in options.only and measured:
            content |= counts(save(), end - time.monotonic())
            save()
        if "sanitizer" in options.only:  # last, because it takes longest
            content["checks"] |= gpu_jobs.run_sanitizer(end - time.monotonic())
    save()
    failed, not_run = ([] if built else ["build"]) + gpu_jobs.failures(content), gpu_jobs.not_run(content)
    print("\n".join([f"written: {file}", *(f"NOT RUN: {x}" for x in not_run), *(f"FAILED: {x}" for x in failed)]))
    return 1 if failed else 2 if not_run else 0


def time_contests(
    content: dict[str, Any],
    unfit: list[dict[str, Any]],
    good: dict[str, list[str]],
    options: argparse.Namespace,
    device: str,
    end: float,
    save: Callable[[], object],
) -> None:
    """Time the contestants in ``good``, into ``content``.

    unfit: why the others are not timed. What ends the benchmarks costs none of the stages that follow.
    """
    from bench import gpu_contests, gpu_counts
    from mannkern.benchmark import harness

    try:
        report = harness.Report("gpu", options.repeats, device, end)
        report.not_timed += unfit
        content |= {"copy_bandwidth": report.copy_rate, "lstm_takes_tf32": torch.backends.cudnn.allow_tf32}
        content |= {"rows": report.rows, "not_timed": report.not_timed}
        if device == "cuda" and report.copy_rate:
            content["hardware"] = gpu_counts.gpu_at_hand(report.copy_rate)._asdict()
        gpu_contests.run(report, save, good, options.tiny)
    except Exception as error:  # such as a kernel that has spoiled the CUDA context of this process
        content["crashed"].append(f"timing: {type(error).__name__}: {error}")


def counts(report: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What ``gpu_counts.of_report`` adds to what is in the file, in so many seconds at most."""
    from bench import gpu_counts

    if "hardware" not in report:
        return {"no_counts": "no bandwidth was measured"}
    if seconds <= 0:
        return {"no_counts": "no time was left"}
    return gpu_counts.of_report(report, min(seconds, gpu_counts.SECONDS))


def _triton_version() -> str:
    import triton

    version: str = triton.__version__
    return version


if __name__ == "__main__":
    sys.exit(main())
