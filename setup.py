"""Builds the compiled library mannkern/_C.abi3.so where torch and a C++ compiler are there; the rest is pyproject.toml.

The library uses LibTorch's stable ABI and no Python, so one binary serves every torch >= 2.10 and every Python.
Without torch at build time, or when compiling fails, the package installs as pure Python and runs on the reference;
MANNKERN_FORCE_BUILD=1 turns both into an error. MANNKERN_WERROR=1 makes warnings errors.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FORCED = os.environ.get("MANNKERN_FORCE_BUILD") == "1"
SOURCES = [f"csrc/cpu/{name}.cpp" for name in ("lrua", "mann", "ntm", "ntm_lstm", "isa", "isa_portable", "isa_avx2", "isa_avx512")]


def say(reason: str) -> None:
    print(f"mannkern: no compiled library: {reason}; operations run on the reference", file=sys.stderr)


def native_extension() -> list[Extension]:
    try:
        import torch
        from torch.utils.cpp_extension import include_paths
    except ImportError as error:
        if FORCED:
            raise RuntimeError(
                "MANNKERN_FORCE_BUILD=1 needs torch at build time: pip install --no-build-isolation ."
            ) from error
        say(
            "torch is not importable while building (pip install --no-build-isolation . builds with the torch you have)"
        )
        return []
    torch_lib = str(Path(torch.__file__).parent / "lib")
    warnings = ["-Wall", "-Wextra", "-Wno-psabi"] + (["-Werror"] if os.environ.get("MANNKERN_WERROR") == "1" else [])
    return [
        Extension(
            "mannkern._C",
            SOURCES,
            depends=[str(p) for p in Path("csrc").rglob("*.h")],
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],  # torch 2.10
            # math without errno lets sqrt be one instruction; contraction lets a * b + c be one
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-fvisibility=hidden",
                "-ffp-contract=fast",
                "-fno-math-errno",
                "-fno-trapping-math",
            ]
            + [f"-isystem{path}" for path in include_paths()]
            + warnings,
            library_dirs=[torch_lib],
            libraries=["torch_cpu", "c10"],
            py_limited_api=True,
            optional=not FORCED,
        )
    ]


class BuildExtension(build_ext):
    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if FORCED:
                raise
            say(str(error))
            self.extensions = []

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            if FORCED:
                raise
            say(str(error))


setup(
    ext_modules=native_extension(),
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
