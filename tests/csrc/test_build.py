"""The build without a compiler, without torch and with stand-ins for nvcc, and what the library needs to load."""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from itertools import accumulate
from pathlib import Path

import pytest

from mannkern.backends import native

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.slow


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


NVCC = """#!/bin/sh
case "$1" in
  --version) echo "Cuda compilation tools, release {release}, V{release}" ;;
  --list-gpu-code) echo {known} ;;
  *) [ {code} = 0 ] || exit {code}; while [ "$1" != -o ]; do shift; done; echo built > "$2" ;;
esac
"""


def build_with_nvcc(
    source: Path, release: str = "13.0", code: int = 0, known: str = "80 90 100 120", **environment: str
) -> str:
    """The output of a build with a torch of CUDA 13.0, a stand-in for nvcc and no C++ compiler."""
    (source / "bin").mkdir()
    nvcc = source / "bin" / "nvcc"
    nvcc.write_text(NVCC.format(release=release, code=code, known=" ".join(f"sm_{n}" for n in known.split())))
    nvcc.chmod(0o755)
    (source / "sitecustomize.py").write_text("import torch; torch.version.cuda = '13.0'")
    tools = {"CUDA_HOME": str(source), "PYTHONPATH": str(source), "CC": "false", "CXX": "false"}
    done = build(source, **tools | environment)
    assert done.returncode == 0
    return done.stdout + done.stderr


def test_example(source: Path) -> None:
    """For "8.6;9.0+PTX" nvcc makes machine code for GPUs 8.6 and 9.0, and PTX of 9.0 for later ones."""
    said = build_with_nvcc(source, TORCH_CUDA_ARCH_LIST="8.6;9.0+PTX")
    gpus = [word.removeprefix("-gencode=arch=") for word in said.split() if word.startswith("-gencode")]
    assert gpus == ["compute_86,code=sm_86", "compute_90,code=sm_90", "compute_90,code=compute_90"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("7.5 8.0 8.6 9.0 10.0 12.0+PTX", ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]),  # containers
        ("Ampere;9.0a", ["sm_80", "sm_86", "compute_86", "sm_90a"]),
    ],
)
def test_gpus_that_are_too_old_are_left_out_and_names_are_known(source: Path, asked: str, expected: list[str]) -> None:
    said = build_with_nvcc(source, TORCH_CUDA_ARCH_LIST=asked)
    assert [word.split(",code=")[1] for word in said.split() if word.startswith("-gencode")] == expected
    assert ("no CUDA library for GPUs 7.5: the kernels need 8.0 or later" in said) == ("7.5" in asked)


@pytest.mark.parametrize(("asked", "need"), [("7.5", "a GPU of 8.0 or later"), ("Kepler", "numbers such as 9.0, or")])
def test_a_list_without_a_gpu_builds_no_cuda_library(source: Path, asked: str, need: str) -> None:
    said = build_with_nvcc(source, TORCH_CUDA_ARCH_LIST=asked)
    assert f"no CUDA library: TORCH_CUDA_ARCH_LIST: got '{asked}', need {need}" in said
    assert "-gencode" not in said


def test_failed_compile_leaves_a_pure_python_package_and_says_so(source: Path) -> None:
    done = build(source, CC="false", CXX="false")
    assert done.returncode == 0
    assert "mannkern: no compiled library: " in done.stderr
    assert "failed with exit code 1" in done.stderr
    assert not list(source.rglob("*.so"))


COMPILER = """#!/bin/sh
echo begin >> "$LOG"
sleep 0.1
echo end >> "$LOG"
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


BROKEN = """#!/bin/sh
echo "kernels.h: In function f:"
echo "collect2: error: ld returned 1 exit status" >&2
printf 'kernels.h:3:5: error: no such instruction: J\\374rgen\\n' >&2
exit 1
"""


@pytest.mark.parametrize("how", ["in place", "in the clone", "elsewhere"])
def test_a_package_says_why_it_was_not_compiled(
    source: Path, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    """And no longer once it was; with a stand-in for the compiler."""
    compiler = source / "compiler"
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", str(site)]
    commands = {
        "in place": [sys.executable, "setup.py", "build_ext", "--inplace"],
        "in the clone": [*pip, "-e", "."],
        "elsewhere": [*pip, "."],
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MANNKERN_")}
    clean |= {"CC": str(compiler), "CXX": str(compiler), "LOG": os.devnull}
    clean |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # which cannot write what the compiler says
    kept = (site if how == "elsewhere" else source) / "mannkern" / "_C.txt"
    for script in (BROKEN, COMPILER):
        compiler.write_text(script)
        compiler.chmod(0o755)
        subprocess.run(commands[how], cwd=source, env=clean, check=True, capture_output=True, timeout=120)
        if script is BROKEN:
            code = "from mannkern.backends import native; print(native.reason)"
            said = subprocess.run([sys.executable, "-c", code], cwd=kept.parents[1], capture_output=True, text=True)
            why = "kernels.h:3:5: error: no such instruction: J\N{REPLACEMENT CHARACTER}rgen"
            assert said.stdout.startswith(f"the compiled library was not built ({why}); with a C++ compiler: ")
            shutil.rmtree(site)
    assert (kept.parent / "_C.abi3.so").exists()
    assert not kept.exists()


@pytest.mark.parametrize(("jobs", "most"), [("1", 1), ("4", 4)])
def test_sources_are_compiled_side_by_side(source: Path, jobs: str, most: int) -> None:
    """With a stand-in for the compiler, which takes a tenth of a second for a source."""
    compiler = source / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    log = source / "log"
    done = build(source, CC=str(compiler), CXX=str(compiler), LOG=str(log), MAX_JOBS=jobs, MANNKERN_FORCE_BUILD="1")
    assert done.returncode == 0, done.stderr
    assert (source / "mannkern" / "_C.abi3.so").exists()
    running = list(accumulate(1 if line == "begin" else -1 for line in log.read_text().split()))
    assert max(running) == most


def test_failed_compile_is_an_error_when_forced(source: Path) -> None:
    assert build(source, CC="false", CXX="false", MANNKERN_FORCE_BUILD="1").returncode != 0


@pytest.mark.parametrize("forced", ["0", "1"])
def test_build_without_torch_stops_and_names_the_command(source: Path, forced: str) -> None:
    (source / "torch.py").write_text("raise ImportError('hidden for this test')")
    done = build(source, MANNKERN_FORCE_BUILD=forced, PYTHONPATH=str(source))
    assert done.returncode == 1
    assert 'pip install torch "setuptools>=77", then pip install --no-build-isolation .' in done.stderr
    assert "MANNKERN_PURE=1 pip install ." in done.stderr


def test_pure_python_is_built_where_it_is_asked_for(source: Path) -> None:
    (source / "torch.py").write_text("raise ImportError('hidden for this test')")
    done = build(source, MANNKERN_PURE="1", PYTHONPATH=str(source), CC="false", CXX="false")
    assert done.returncode == 0
    assert "mannkern: no compiled library: MANNKERN_PURE=1; operations run on the reference" in done.stderr
    assert not list(source.rglob("*.so"))


def test_pip_install_without_torch_stops_and_shows_the_command(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As ``pip install .`` with build isolation, whose environment has setuptools and no torch."""
    target = tmp_path_factory.mktemp("target")
    (source / "backend.py").write_text(
        "import sys\nsys.modules['torch'] = None\nfrom setuptools.build_meta import *\n"  # None: it cannot be imported
    )
    project = (source / "pyproject.toml").read_text()
    head = 'build-backend = "setuptools.build_meta"\n'
    assert head in project
    (source / "pyproject.toml").write_text(project.replace(head, 'build-backend = "backend"\nbackend-path = ["."]\n'))
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", str(target)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MANNKERN_")}
    done = subprocess.run([*command, str(source)], env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "pip install --no-build-isolation ." in done.stdout + done.stderr
    assert not list(target.iterdir())
    done = subprocess.run([*command, str(source)], env=clean | {"MANNKERN_PURE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0
    assert (target / "mannkern" / "__init__.py").exists()
    assert not list(target.rglob("*.so"))


def test_source_archive_has_what_a_build_needs(source: Path) -> None:
    """And no compiled library, whether torch is there or not."""
    for name in ("MANIFEST.in", "CITATION.cff", "CHANGELOG.md", "SECURITY.md"):
        shutil.copy(ROOT / name, source)
    (source / "mannkern" / "_C.abi3.so").touch()
    code = "import sys; sys.modules['torch'] = None; from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=120)
    with tarfile.open(next((source / "dist").glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu")
    }
    assert wanted | {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "mannkern/py.typed"} <= names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("80 90 100 103 120", ["sm_80", "sm_90", "sm_100", "compute_100", "sm_120", "compute_120"]),
        ("70 80 90", ["sm_80", "sm_90", "compute_90"]),
    ],
    ids=["CUDA 13", "CUDA 12.0"],
)
def test_cuda_library_is_built_beside_a_torch_of_cuda(source: Path, known: str, expected: list[str]) -> None:
    """For the GPUs of setup.py that nvcc knows; GPUs that came later compile the PTX themselves."""
    said = build_with_nvcc(source, known=known)
    gpus = [word.partition(",code=")[2] for word in said.split() if word.startswith("-gencode")]
    assert gpus == expected
    assert [file.name for file in (source / "mannkern").glob("*.so")] == ["_CUDA.abi3.so"]


def test_cuda_library_that_cannot_be_built_is_left_out_and_said(source: Path) -> None:
    said = build_with_nvcc(source, code=1)
    assert "mannkern: no CUDA library: " in said
    assert "failed with exit code 1" in said
    assert not list(source.rglob("*.so"))


def test_nvcc_of_another_cuda_is_not_used(source: Path) -> None:
    said = build_with_nvcc(source, release="12.6")
    assert "belongs to CUDA 12, PyTorch to CUDA 13.0; set CUDA_HOME" in said
    assert not list(source.rglob("*.so"))


def test_library_needs_no_python_and_only_the_stable_interface_of_torch() -> None:
    assert not native.reason
    library = ROOT / "mannkern" / "_C.abi3.so"
    listing = subprocess.run(["nm", "-D", "-u", str(library)], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines()]
    assert any(name.startswith("aoti_torch_") for name in symbols)
    assert not [name for name in symbols if name.startswith(("Py", "_Py", "_ZN2at", "_ZNK2at", "_ZN3c10", "_ZNK3c10"))]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 instructions")
def test_prefetches_are_in_the_compiled_library() -> None:
    """GCC deletes calls to functions that only prefetch unless they are inlined: a scan once lost most prefetches."""
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(ROOT / "mannkern" / "_C.abi3.so")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions = [function.partition(":\n") for function in listing.split("\n\n")]
    for name, rows in {"lrua_scan": 5, "lrua_scan_backward": 7, "lrua_step": 1, "lrua_step_backward": 1}.items():
        whole = [(head, code) for head, _, code in functions if "[clone" not in head]
        counts = [code.count("prefetch") for head, code in whole if f"::{name}<float>(mannkern::" in head]
        assert len(counts) == 3, f"{name} for three instruction sets"
        assert min(counts) >= rows, name


@pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang++ is installed")
def test_clang_accepts_the_sources() -> None:
    """The build takes GCC where both are installed, so that nothing else shows what Clang refuses."""
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from subprocess import run
from setup import MACROS, SOURCES, compile_flags
from torch.utils.cpp_extension import include_paths
flags = ["-fsyntax-only", "-Werror", *(f"-D{name}={value}" for name, value in MACROS), *compile_flags(include_paths())]
with ThreadPoolExecutor(2) as pool:
    codes = list(pool.map(lambda source: run(["clang++", *flags, source]).returncode, SOURCES))
sys.exit(max(codes))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
