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
    """Both compiled libraries for the Python that runs this: whether they could be, and what was said of them."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"MANNKERN_FORCE_BUILD": "1"}, capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("mannkern: no")]
    if done.returncode:
        return False, done.stderr[-2000:]
    return True, "; ".join(said) or "built"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--minutes", type=float, default=8, help="when to begin nothing new")
    parser.add_argument("--skip", nargs="*", default=[], choices=["build", "checks", "verify", "bench"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small sizes, and the CPU where no GPU is")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU: torch.cuda.is_available() is False")
        return 1
    deadline = time.monotonic() + 60 * options.minutes
    built, said = (True, "not asked for") if "build" in options.skip else build()
    print(f"compiled libraries: {said}", flush=True)
    from bench import gpu_contest, gpu_ntm, measure  # they import mannkern, which loads what has just been built

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name().lower().replace(" ", "-") if device == "cuda" else "rehearsal"
    file = options.out / f"{name}.json"
    content: dict[str, Any] = {"benchmark": "gpu", **measure.surroundings(), "gpu": name, "triton": _triton_version()}
    content["build"], failed = said, [] if built else ["build"]
    if "checks" not in options.skip and device == "cuda":
        from tests.gpu.checks import run_all

        content["checks"] = run_all()
        failed += [f"check {k}" for k, said in content["checks"].items() if not said.startswith(("holds", "not run"))]
        measure.write(file, content)  # after every stage: what comes next may take too long
    if "verify" not in options.skip:
        from mannkern.verification.verify import contenders, verify

        rows = [row for b, d in contenders([device]) for row in verify(b, d, seed=int(time.time()))]
        content["verify"] = [row._asdict() | {"good": row.good} for row in rows]
        failed += [f"verify {row.operation} {row.dtype}" for row in rows if not row.good]
        print(f"verify: {sum(row.good for row in rows)} of {len(rows)} rows are right", flush=True)
        measure.write(file, content)
    if "bench" not in options.skip:
        bench = gpu_contest.Bench(device, options.repeats, deadline)
        content["copy_bandwidth"] = bench.bandwidth
        content["rows"] = bench.rows
        gpu_ntm.contest(bench, (2, 3) if options.tiny else (16384, 256))
        measure.write(file, content)
        gpu_contest.contest(bench, options.tiny, lambda: measure.write(file, content))
    content["failed"] = failed
    measure.write(file, content)
    print(f"written: {file}\n" + "\n".join(f"FAILED: {what}" for what in failed))
    return int(bool(failed))


def _triton_version() -> str:
    import triton

    version: str = triton.__version__
    return version


if __name__ == "__main__":
    sys.exit(main())
