"""Compiles the C++ library for 64-bit Arm and runs it on this machine's processor by emulation: ``make arm``.

QEMU runs an Arm build of Python, PyTorch and the library, instruction by instruction. ``verify`` then compares every
operation with the float64 reference, and the tests named here run as well. This shows that results are right there; it
says nothing about speed. Everything is put into build/arm, half a gigabyte, and the second time only mannkern is new.

It needs root for debootstrap, and on Debian or Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user debootstrap
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARM = ROOT / "build" / "arm"
SYSTEM, SITE, TREE = ARM / "system", ARM / "site", ARM / "tree"
COMPILER, EMULATOR, INSTALLER = TOOLS = ("aarch64-linux-gnu-g++", "qemu-aarch64", "debootstrap")
TORCH = "torch==2.10.0"  # the last one whose package for Arm holds no CUDA
PACKAGES = ("numpy", "pytest", "hypothesis", "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec")
TESTS = ("tests/memories/test_sequence.py", "tests/memories/test_accuracy.py")  # none starts a process or compiles
CHOSEN = "not fresh_allocations"  # PyTorch for Arm has an allocator of its own, which is not filled with NaN


def run(*command: str | Path, folder: Path = ROOT) -> None:
    """Run a command and end this program with its exit code where it fails."""
    code = subprocess.run(list(map(str, command)), cwd=folder).returncode
    if code:
        sys.exit(f"{command[0]} ended with {code}")


def install_system() -> None:
    """Debian's Python for Arm and the C library that it needs, unpacked and not installed."""
    if (SYSTEM / "usr/bin/python3.11").exists():
        return
    run(INSTALLER, "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3,libgomp1", "bookworm", SYSTEM)
    for package in sorted((SYSTEM / "var/cache/apt/archives").glob("*.deb")):
        run("dpkg", "-x", package, SYSTEM)


def install_packages() -> None:
    """PyTorch and what it and the tests import, for Arm and Python 3.11."""
    if (SITE / "torch").exists():
        return
    platforms = [f"--platform=manylinux_2_{version}_aarch64" for version in (28, 17)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--target={SITE}"]
    for packages in (PACKAGES, ("--no-deps", TORCH)):
        run(*pip, *platforms, "--python-version=3.11", "--only-binary=:all:", *packages)


def compile_library() -> None:
    """The C++ library of this source tree, with the flags of setup.py and warnings as errors."""
    sys.path.insert(0, str(ROOT))
    import setup

    flags = [flag for flag in setup.native_extension()[0].extra_compile_args if not flag.startswith("-isystem")]
    include = SITE / "torch" / "include"
    headers = [f"-isystem{include}", f"-isystem{include / 'torch/csrc/api/include'}"]
    macros = [f"-D{name}={value}" for name, value in setup.MACROS]
    objects = ARM / "objects"
    objects.mkdir(exist_ok=True)
    for source in setup.SOURCES:
        print(f"compiling {source} for Arm", flush=True)
        run(
            COMPILER,
            "-c",
            "-fPIC",
            "-Werror",
            *flags,
            *macros,
            *headers,
            source,
            "-o",
            objects / f"{Path(source).stem}.o",
        )
    libraries = [f"-L{SITE / 'torch/lib'}", "-ltorch_cpu", "-lc10"]
    library = TREE / "mannkern/_C.abi3.so"
    run(COMPILER, "-shared", *sorted(objects.glob("*.o")), *libraries, "-o", library)


def copy_tree() -> None:
    """The Python side of this source tree, without libraries for this machine."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in ("mannkern", "tests"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)


def emulate(*arguments: str) -> None:
    """Run Python on the emulated processor, in the copied tree."""
    python = SYSTEM / "usr/bin/python3.11"
    run(EMULATOR, "-L", SYSTEM, "-E", f"PYTHONPATH={SITE}:{TREE}", python, *arguments, folder=TREE)


def main(arguments: Sequence[str]) -> int:
    """Build, verify and test; with ``arguments`` run Python with these on the emulated processor in place of tests."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"not found: {', '.join(missing)}; {__doc__.splitlines()[-1]}", file=sys.stderr)
        return 1
    ARM.mkdir(parents=True, exist_ok=True)
    install_system()
    install_packages()
    copy_tree()
    compile_library()
    if arguments:
        emulate(*arguments)
        return 0
    emulate("-m", "mannkern", "verify")
    emulate("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not interpreter", "-k", CHOSEN, *TESTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
