"""The GPU check: build, checks on the GPU, ``verify``, benchmarks, into bench/results/<gpu>.json. Installs nothing."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--minutes", type=float, default=8, help="time after which nothing new begins")
    parser.add_argument("--skip", nargs="*", default=[], choices=["build", "checks", "verify", "bench", "sanitizer"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal with small sizes, which also runs on a CPU")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU: torch.cuda.is_available() is False")
        return 1
    deadline = time.monotonic() + 60 * options.minutes
    built, message = (True, "not asked for") if "build" in options.skip else build()
    print(f"compiled libraries: {message}", flush=True)
    from bench import gpu_contests, harness, machine  # they import mannkern, which loads what has just been built
    from tests.gpu import checks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name().lower().replace(" ", "-") if device == "cuda" else "rehearsal"
    file = options.out / f"{name}.json"
    content: dict[str, Any] = {"benchmark": "gpu", **machine.surroundings(), "gpu": name, "triton": _triton_version()}
    content["build"], failed = message, [] if built else ["build"]
    if "checks" not in options.skip and device == "cuda":
        content["checks"] = checks.run(name for name in checks.CHECKS if name not in ("accuracy", "sanitizer"))
        machine.write(file, content)  # after every stage, since the next may take too long
    if "verify" not in options.skip:
        from mannkern.verification.verify import available_backends, verify

        rows = [row for b, d in available_backends([device]) for row in verify(b, d, seed=int(time.time()))]
        content["verify"] = [row._asdict() | {"good": row.good} for row in rows]
        failed += [f"verify {row.operation} {row.dtype}" for row in rows if not row.good]
        print(f"verify: {sum(row.good for row in rows)} of {len(rows)} rows are right", flush=True)
        machine.write(file, content)
    if "bench" not in options.skip:
        report = harness.Report("gpu", options.repeats, device, deadline)
        content |= {"copy_bandwidth": report.copy_rate, "rows": report.rows, "not_timed": report.not_timed}
        gpu_contests.run(report, options.tiny, lambda: machine.write(file, content))
        failed += ["bench: a contestant differs from the reference"] if report.differs else []
    if "sanitizer" not in options.skip and device == "cuda":  # last, because it takes longest
        content["checks"] = content.get("checks", {}) | checks.run(["sanitizer"])
    failed += [
        f"check {k}" for k, found in content.get("checks", {}).items() if not found.startswith(("holds", "not run"))
    ]
    content["failed"] = failed
    machine.write(file, content)
    print(f"written: {file}\n" + "\n".join(f"FAILED: {what}" for what in failed))
    return int(bool(failed))


def _triton_version() -> str:
    import triton

    version: str = triton.__version__
    return version


if __name__ == "__main__":
    sys.exit(main())
