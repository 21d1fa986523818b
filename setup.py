"""Builds the compiled libraries, if the machine has what they need; everything else is in pyproject.toml.

mannkern/_C.abi3.so needs torch and a C++ compiler; mannkern/_CUDA.abi3.so needs a torch built with CUDA and its nvcc,
but no GPU. They use LibTorch's stable ABI and no Python, so one binary serves every torch >= 2.10 and every Python.
Without torch at build time the build stops, because what it would install is slow; MANNKERN_PURE=1 builds pure Python
all the same, which runs on the reference. When compiling fails, the package installs as pure Python too, says so, and
keeps the reason in mannkern/_C.txt or _CUDA.txt for its warning; MANNKERN_FORCE_BUILD=1 turns that into an error.
MANNKERN_WERROR=1 makes warnings errors, MANNKERN_SANITIZE names the sanitizers to build for, such as
"address,undefined" (make sanitize). TORCH_CUDA_ARCH_LIST, such as "9.0 10.0+PTX", chooses the GPUs; those older than
8.0 are left out. MAX_JOBS is the number of sources compiled at a time, as for PyTorch's extensions.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PURE = os.environ.get("MANNKERN_PURE") == "1"
FORCED = os.environ.get("MANNKERN_FORCE_BUILD") == "1"
WERROR = os.environ.get("MANNKERN_WERROR") == "1"
SANITIZERS = os.environ.get("MANNKERN_SANITIZE", "")
SANITIZE = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all"] if SANITIZERS else []  # the first finding ends it
SOURCES = sorted(map(str, [*Path("csrc/cpu").glob("*.cpp"), *Path("csrc/cpu/kernels").glob("*.cpp")]))
CUDA_SOURCES = sorted(map(str, Path("csrc/cuda").glob("*.cu")))
# A100, H100, B200, RTX 50; the driver compiles PTX of 10.0 for GPUs 11, and the last one's for later GPUs
GPUS = ("8.0", "9.0", "10.0+PTX", "12.0+PTX")
# the names that PyTorch's own builds take
NAMED_GPUS = {"Turing": ("7.5+PTX",), "Ampere": ("8.0", "8.6+PTX"), "Ada": ("8.9+PTX",), "Hopper": ("9.0+PTX",)}
# GCC and Clang have the vector types of the kernels; cl, Microsoft's compiler, has not, so Windows needs clang-cl
WINDOWS = os.name == "nt"
# what native.py calls, named on Windows alone
EXPORTS = ["mannkern_isa", "mannkern_set_isa", "mannkern_vector_bytes", "mannkern_multiplies_bfloat16"]
MACROS = [("TORCH_TARGET_VERSION", "0x020a000000000000")]  # torch 2.10


FILES = {"compiled library": "_C", "CUDA library": "_CUDA"}
reasons: dict[str, str] = {}  # why a library is not built, by its file


def say(reason: str, library: str = "compiled library") -> None:
    if library in FILES:
        reasons[FILES[library]] = reason
    print(f"mannkern: no {library}: {reason}; operations run on the reference", file=sys.stderr)


def find_nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return shutil.which(
        "nvcc", path=os.pathsep.join([*(f"{home}/bin" for home in homes), os.environ.get("PATH", "")])
    ) or (shutil.which("nvcc", path="/usr/local/cuda/bin"))


def nvcc_flags(nvcc: str, include_paths: list[str]) -> list[str]:
    """The command that compiles CUDA_SOURCES, without the GPUs it is for and the flags for warnings."""
    macros = [f"-D{name}={value}" for name, value in [*MACROS, ("USE_CUDA", "1")]]
    return [nvcc, "-std=c++20", "-O3", *macros, *(f"-isystem={path}" for path in include_paths)]


def gpu_flags(nvcc: str) -> list[str]:
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    gpus = [number for gpu in re.split(r"[ ;,]+", asked) if gpu for number in NAMED_GPUS.get(gpu, (gpu,))]
    for gpu in gpus:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", gpu):
            raise ValueError(f"TORCH_CUDA_ARCH_LIST: got {gpu!r}, need numbers such as 9.0, or {', '.join(NAMED_GPUS)}")
    old = [gpu for gpu in gpus if int(gpu.split(".")[0]) < 8]
    if old:
        say("the kernels need 8.0 or later", f"CUDA library for GPUs {', '.join(old)}")
        gpus = [gpu for gpu in gpus if gpu not in old]
        if not gpus:
            raise ValueError(f"TORCH_CUDA_ARCH_LIST: got {asked!r}, need a GPU of 8.0 or later")
    if not gpus:
        known = subprocess.run([nvcc, "--list-gpu-code"], check=True, capture_output=True, text=True).stdout.split()
        gpus = [gpu for gpu in GPUS if f"sm_{gpu.removesuffix('+PTX').replace('.', '')}" in known]
        gpus[-1] = gpus[-1].removesuffix("+PTX") + "+PTX"
    flags = []
    for gpu in gpus:
        number = gpu.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if gpu.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


NO_TORCH = """mannkern: torch is not importable while building, so there is nothing to compile the kernels with.
    pip install torch "setuptools>=77", then pip install --no-build-isolation .    compiles them with the torch you have
    MANNKERN_PURE=1 pip install .    installs without compiled kernels: everything then runs on the reference, slowly
"""


def compile_flags(include_paths: list[str]) -> list[str]:
    """The flags of the C++ library, for GCC and Clang, or for clang-cl."""
    # without errno sqrt is one instruction, and with contraction so is a * b + c
    numbers = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
    if WINDOWS:
        return ["/std:c++17", "/O2", "/EHsc", *(f"/clang:{flag}" for flag in numbers)] + [
            f"/I{path}" for path in include_paths
        ]
    optimize = ["-O1", "-g", "-fno-omit-frame-pointer"] if SANITIZE else ["-O3", "-g0"]
    warnings = ["-Wall", "-Wextra", "-Wno-psabi"] + (["-Werror"] if WERROR else [])
    paths = [f"-isystem{path}" for path in include_paths]
    return ["-std=c++17", *optimize, "-fvisibility=hidden", *numbers, *paths, *warnings, *SANITIZE]


class NeedsTorch(Extension):
    """Stands for the library where torch is missing: whoever builds it is stopped."""


def native_extension() -> list[Extension]:
    if PURE:
        say("MANNKERN_PURE=1")
        return []
    try:
        import torch
        from torch.utils.cpp_extension import include_paths
    except ImportError:  # BuildExtension then stops; metadata and source archives need no torch
        return [NeedsTorch("mannkern._C", SOURCES, py_limited_api=True)]
    torch_lib = str(Path(torch.__file__).parent / "lib")
    extensions = [
        Extension(
            "mannkern._C",
            SOURCES,
            depends=["setup.py", *map(str, Path("csrc").rglob("*.h"))],
            define_macros=MACROS,
            extra_compile_args=compile_flags(include_paths()),
            export_symbols=EXPORTS if WINDOWS else [],
            extra_link_args=SANITIZE,
            library_dirs=[torch_lib],
            libraries=["torch_cpu", "c10"],
            py_limited_api=True,
            optional=not FORCED,
        )
    ]
    if torch.version.cuda is not None:
        extensions += cuda_extension(torch.version.cuda, torch_lib, include_paths())
    return extensions


def cuda_extension(cuda: str, torch_lib: str, include_paths: list[str]) -> list[Extension]:
    nvcc = find_nvcc()
    if nvcc is None:
        say(f"nvcc is not found; install CUDA {cuda}'s toolkit or set CUDA_HOME", "CUDA library")
        return []
    release = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"release (\d+)\.", release)
    if match is None or match[1] != cuda.split(".")[0]:
        version = f"CUDA {match[1]}" if match else "another version"
        say(f"{nvcc} belongs to {version}, PyTorch to CUDA {cuda}; set CUDA_HOME", "CUDA library")
        return []
    try:
        gpus = gpu_flags(nvcc)
    except ValueError as error:
        if FORCED:
            raise
        say(str(error), "CUDA library")
        return []
    return [
        Extension(
            "mannkern._CUDA",
            CUDA_SOURCES,
            depends=[str(p) for p in Path("csrc").rglob("*.h")],
            extra_compile_args=nvcc_flags(nvcc, include_paths)
            + gpus
            + (["-Werror=all-warnings"] if WERROR else [])
            + ["-shared", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xlinker=--exclude-libs,ALL", "--threads=0"]
            + [f"-L{torch_lib}", "-ltorch_cuda", "-ltorch_cpu", "-lc10"],
            py_limited_api=True,
            optional=not FORCED,
        )
    ]


def side_by_side(compile: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """The compiler's ``compile``, with as many sources at a time as there are processors, or MAX_JOBS of them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = int(os.environ.get("MAX_JOBS") or available)

    def compile_all(sources: list[str], **settings: object) -> list[str]:
        with ThreadPoolExecutor(jobs) as pool:
            return list(chain(*pool.map(lambda source: compile([source], **settings), sources)))

    return compile_all


ERROR = "error:|cannot find|undefined reference"  # in a line of a compiler or linker


@contextmanager
def errors_of_compiler() -> Iterator[list[str]]:
    """Shows what is written to stderr in the block, also by other processes, and adds the lines with an error."""
    found: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield found
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            said = file.read().decode(errors="replace")
            sys.stderr.write(said)
            found += [line.strip() for line in said.splitlines() if re.search(ERROR, line)]


def first_error(lines: list[str]) -> str:
    """The line that says most: a compiler's first error, or what the linker missed; "" if there is none."""
    causes = [line for line in lines if not line.startswith(("collect2:", "clang: error: linker"))]
    return next(iter([*causes, *lines]), "")


def keep_reasons(package: Path) -> None:
    """Write beside the libraries why one is missing. The package is as good without the file: no error stops here."""
    with suppress(OSError):
        package.mkdir(parents=True, exist_ok=True)
        for name in FILES.values():
            (package / f"{name}.txt").unlink(missing_ok=True)
            if name in reasons:
                (package / f"{name}.txt").write_text(reasons[name], encoding="utf-8")


class BuildExtension(build_ext):
    def run(self) -> None:
        if any(isinstance(extension, NeedsTorch) for extension in self.extensions):
            raise SystemExit(NO_TORCH)
        package = Path("mannkern") if self.inplace else Path(self.build_lib, "mannkern")
        try:
            super().run()
        except Exception as error:
            if FORCED:
                raise
            say(str(error))
            self.extensions = []
        keep_reasons(package)

    def build_extension(self, ext: Extension) -> None:
        cuda, errors = ext.sources == CUDA_SOURCES, []
        try:
            with errors_of_compiler() as errors:
                self.build_cuda(ext) if cuda else self.build_cpp(ext)
        except Exception as error:
            if FORCED:
                raise
            failed = error.__context__ if isinstance(error.__context__, subprocess.CalledProcessError) else None
            other = f"{failed.cmd[0]} failed with exit code {failed.returncode}" if failed else str(error)
            say(first_error(errors) or other, "CUDA library" if cuda else "compiled library")

    def build_cpp(self, ext: Extension) -> None:
        if WINDOWS:
            self.compiler.initialize()
            self.compiler.cc = "clang-cl"
        self.compiler.compile = side_by_side(self.compiler.compile)
        super().build_extension(ext)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return list(ext.export_symbols)  # the library is no Python module, so it has no PyInit

    def build_cuda(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name))
        changed = max(Path(name).stat().st_mtime for name in [*ext.sources, *ext.depends, "setup.py"])
        if not self.force and library.exists() and library.stat().st_mtime > changed:
            return
        library.parent.mkdir(parents=True, exist_ok=True)
        self.spawn([*ext.extra_compile_args, *ext.sources, "-o", str(library)])


if __name__ == "__main__":
    extensions = native_extension()
    if not extensions:  # then build_ext does not run
        keep_reasons(Path("mannkern"))
    setup(
        ext_modules=extensions,
        cmdclass={"build_ext": BuildExtension},
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
