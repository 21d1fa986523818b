"""Builds the C++ library for sanitizers and runs it under them: ``make sanitize``.

AddressSanitizer and UndefinedBehaviorSanitizer see what is read or written outside a tensor and what C++ leaves
undefined, on many sizes and in wrong calls. ThreadSanitizer sees races between the threads of the parallel loops. Each
has a library of its own in build/sanitize, which is compiled again only when a source has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "sanitize"
FUZZ = ROOT / "tests" / "fuzz"
COMPILER = os.environ.get("CXX", "c++")


class Sanitizer(NamedTuple):
    """A build of the library, and the process that runs it."""

    flags: str  # of -fsanitize
    runtimes: tuple[str, ...]  # the compiler's libraries that have to be loaded before all others
    options: dict[str, str]  # environment variables
    planted: str  # an error of sanitized.py that has to be found
    message: str  # what is said of it
    before: tuple[str, ...] = ()  # the command that starts the process


SANITIZERS = {
    "address": Sanitizer(
        "address,undefined,float-cast-overflow",
        ("libasan.so", "libstdc++.so"),
        # fresh memory is NaN; some wrong calls ask for more memory than there is
        {
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:"
            "malloc_fill_byte=255:max_malloc_fill_size=1000000",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        "beside",
        "heap-buffer-overflow",
    ),
    "thread": Sanitizer(
        "thread",
        ("libtsan.so", "libstdc++.so"),
        {"TSAN_OPTIONS": "halt_on_error=1:suppressions=tests/csrc/threads.suppressions"},
        "race",
        "data race",
        # its shadow memory has fixed places, which random addresses hit in some runs
        ("setarch", "-R") if shutil.which("setarch") else (),
    ),
}


def build(name: str) -> None:
    """The library in a copy of this source tree."""
    folder = BUILD / name
    for part in ("csrc", "mannkern", "tests"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored, dirs_exist_ok=True)
    for part in ("setup.py", "pyproject.toml"):
        shutil.copy2(ROOT / part, folder)
    environment = {"MANNKERN_SANITIZE": SANITIZERS[name].flags, "MANNKERN_FORCE_BUILD": "1"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    print(f"{name}: building, some minutes where a source has changed", flush=True)
    subprocess.run(command, cwd=folder, env=os.environ | environment, check=True)
    if name == "thread":
        flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-shared", "-fPIC"]
        subprocess.run([COMPILER, *flags, "tests/csrc/threads.cpp", "-o", "threads.so"], cwd=folder, check=True)


def runtime(library: str) -> str:
    """Where the compiler has a library."""
    command = [COMPILER, f"-print-file-name={library}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with the sanitizer's library, in its copy of the source tree.

    ThreadSanitizer finds no room for its own memory at some starts, within seconds, and is then started again.
    """
    sanitizer, folder = SANITIZERS[name], BUILD / name
    preloaded = [*map(runtime, sanitizer.runtimes), *map(str, folder.glob("threads.so"))]
    environment = os.environ | sanitizer.options | {"LD_PRELOAD": " ".join(preloaded)}
    command = [*sanitizer.before, sys.executable, "-m", *arguments]
    for _ in range(20):
        done = subprocess.run(command, cwd=folder, env=environment, text=True, **options)
        if "ThreadSanitizer failed to allocate" not in (done.stderr or ""):
            break
    return done


def main(names: list[str]) -> None:
    for name in names or SANITIZERS:
        build(name)
        planted = run(name, "tests.csrc.sanitized", SANITIZERS[name].planted, capture_output=True)
        if not planted.returncode or SANITIZERS[name].message not in planted.stderr:
            sys.exit(f"{name}: the planted error was not found: {planted.stderr}")
        print(f"{name}: the planted error was found", flush=True)
        checked = run(name, "tests.csrc.sanitized", name, stderr=subprocess.PIPE)
        print(checked.stderr, end="", file=sys.stderr)
        if checked.returncode:
            sys.exit(f"{name}: a finding, see above")
        if name == "address" and FUZZ.exists():
            os.environ["FUZZ"] = "5000"  # problems, others each time
            run(name, "pytest", "-p", "no:cacheprovider", "-m", "not interpreter", "tests/fuzz", check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
