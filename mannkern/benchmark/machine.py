"""The JSON of a benchmark: written whole, with the machine, versions and commit that its results are from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import mannkern
from mannkern.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ("docs", "bench/results")  # folders that hold no code, and in which benchmarks write
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # what else the machine was doing


def write(file: Path, content: dict[str, Any]) -> None:
    """Indented JSON, in a folder that is made where it is missing. No file is ever half written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(file, lambda opened: opened.write(text.encode()))


def surroundings() -> dict[str, Any]:
    """Machine, versions, commit and command."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "load_before": LOAD,
        "versions": {
            "mannkern": mannkern.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "isa": mannkern.backend_info().isa,
        },
        "commit": os.environ.get("COMMIT") or _commit(),  # COMMIT names it for a copy of the files without .git
    }


def busy() -> str:
    """A warning where more programs ran before this one than the machine has cores, else ""."""
    cores = os.cpu_count() or 1
    if LOAD is None or cores >= LOAD:
        return ""
    return f"warning: the load was {LOAD:.1f} on {cores} cores before this, so these are not times of an idle machine"


def is_clone() -> bool:
    """Whether the package lies in a clone of the repository, and is not installed."""
    return (ROOT / ".git").exists() and (ROOT / "setup.py").exists()


def _commit() -> str:
    if not is_clone():  # a repository around an environment is another project's
        return "unknown"
    changed = _git("status", "--porcelain", "-uno", "--", ".", *(f":!{folder}" for folder in WRITTEN))
    return _git("rev-parse", "HEAD") + (" with changes" if changed else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _git(*arguments: str) -> str:
    try:
        completed = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown" if arguments[0] == "rev-parse" else ""
    return completed.stdout.strip()


def processor_share(seconds: float = 0.2) -> float:
    """What a thread that only counts gets of a processor, 1.0 where it shares it with nobody."""
    began, processor = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < seconds:
        pass
    return (time.thread_time() - processor) / (time.perf_counter() - began)
