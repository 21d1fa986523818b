"""The build: a compiler that fails, no torch at build time, and what the compiled library asks of its surroundings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern import native

ROOT = Path(__file__).parents[1]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("csrc", "mannkern"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def build(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MANNKERN_")}
    return subprocess.run(command, cwd=source, env=clean | environment, capture_output=True, text=True, timeout=120)


def test_failed_compile_leaves_a_pure_python_package_and_says_so(source: Path) -> None:
    done = build(source, CC="false", CXX="false")
    assert done.returncode == 0
    assert "no compiled library" in done.stderr
    assert not list(source.rglob("*.so"))


def test_failed_compile_is_an_error_when_forced(source: Path) -> None:
    assert build(source, CC="false", CXX="false", MANNKERN_FORCE_BUILD="1").returncode != 0


@pytest.mark.parametrize(("forced", "code"), [("0", 0), ("1", 1)])
def test_build_without_torch(source: Path, forced: str, code: int) -> None:
    (source / "torch.py").write_text("raise ImportError('hidden for this test')")
    done = build(source, MANNKERN_FORCE_BUILD=forced, PYTHONPATH=str(source))
    assert done.returncode == code
    assert ("torch is not importable" in done.stderr) or ("needs torch at build time" in done.stderr)


def test_library_needs_no_python_and_only_the_stable_interface_of_torch() -> None:
    assert not native.reason
    library = ROOT / "mannkern" / "_C.abi3.so"
    listing = subprocess.run(["nm", "-D", "-u", str(library)], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    assert any(name.startswith("aoti_torch_") for name in symbols)
    assert not [name for name in symbols if name.startswith(("Py", "_Py", "_ZN2at", "_ZNK2at", "_ZN3c10", "_ZNK3c10"))]
