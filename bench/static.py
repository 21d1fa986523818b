"""Compiles every GPU kernel ahead of time, without a GPU, and compares registers, spills and shared memory.

It also looks for products that a compiler fused with a sum, because equal slots then get unequal bits.
The launchers run here on tensors without storage, and the Triton kernels that they would launch are compiled, with the
types and sizes that they ask for. Needs Triton with its interpreter off and, for the CUDA kernels, nvcc and a C++
compiler. It compiles for minutes, so a compiler whose figures were recorded for the same sources is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import static_cuda
from bench.static_configurations import CONFIGURATIONS
from bench.static_cuda import ROOT, Figures
from bench.static_figures import figures_of
from bench.static_launches import Compiled, launches
from mannkern.benchmark.machine import write
from mannkern.triton import controller, episode, least_used, scan, step, write_usage
from mannkern.triton.launch.common import compile_options

RESULTS = Path(__file__).parent / "results" / "static.json"
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
EARLY_TARGETS = ("sm_90", "sm_100")  # where a kernel may begin before the one before it ends
CUDA_TARGETS = ("sm_80", "sm_90", "sm_100", "sm_120")
FORBIDDEN = {
    "spills": "bytes of spills",
    "stack": "bytes of stack",
    "asymmetric": "sums over lanes that give lanes unequal bits",
    "unrounded": "products and sums that the assembler may fuse",
}
# What is known and could not be taken away: no order of loads and no other number of warps saves the last register, and
# columns in one part save it on sm_80, but take 56 bytes of stack on sm_100.
KNOWN = {
    "scan_backward: small, float64, sm_80": {"stack": 8},
    "scan_backward: width a power of two, sm_80": {"stack": 72},  # since long slots have their gradient; no spills
}


def compile_for(item: Compiled, target: str) -> dict[str, int]:
    """Compile for a target, and read the figures of the machine code."""
    modules = (controller, episode, step, scan, least_used, write_usage)
    kernel = next(getattr(m, item.kernel) for m in modules if hasattr(m, item.kernel))
    pointers = [i for i, name in enumerate(kernel.arg_names) if item.signature[name].startswith("*")]
    constants = item.constants
    if "EARLY" in constants:  # the launchers ask the device for it
        constants = constants | {"EARLY": target in EARLY_TARGETS}
    source = ASTSource(
        kernel,
        item.signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in pointers},  # as launch.common.make_aligned makes them
    )
    options = {"num_warps": item.warps, "num_stages": 1} | compile_options(item.warps, TARGETS[target].backend)
    compiled = triton.compile(source, target=TARGETS[target], options=options)
    return figures_of(compiled, TARGETS[target].backend, item.warps)


def compile_all(targets: list[str]) -> Figures:
    """Figures of every kernel and configuration, by name and target."""
    items = [item for name, configuration in CONFIGURATIONS.items() for item in launches(name, configuration)]
    jobs = [(item, target) for item in items for target in targets]
    figures: Figures = {item.name: {} for item in items}
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for (item, target), measured in zip(jobs, pool.map(compile_for, *zip(*jobs), chunksize=8)):
            figures[item.name][target] = measured
    return figures


def complaints(figures: Figures, recorded: dict[str, Any]) -> list[str]:
    """Sentences about what no kernel may have, about too large programs, and about every figure worse than recorded."""
    sentences = []
    for name, by_target in figures.items():
        for target, now in by_target.items():
            where = f"{name}, {target}"
            known = KNOWN.get(where, {})
            sentences += [
                f"{where}: {now[k]} {what}" for k, what in FORBIDDEN.items() if now.get(k, 0) > known.get(k, 0)
            ]
            held = now["registers"] * now["warps"] * TARGETS[target].warp_size
            if TARGETS[target].backend == "cuda" and held > 65536:
                sentences.append(f"{where}: {held} registers a program, of 65536 there are")
            most = static_cuda.MOST_SHARED.get(name.split(":")[0], 65536)
            if now["shared"] > most:
                sentences.append(f"{where}: {now['shared']} bytes of shared memory, of {most} there are")
            before = recorded.get(name, {}).get(target)
            if before is None:
                sentences.append(f"{where}: not recorded")
                continue
            for k in now:
                if now[k] > before.get(k, 0) * 1.1:
                    sentences.append(f"{where}: {k} {now[k]}, recorded {before.get(k, 0)}")
    sentences += [f"{name}: recorded, but no longer compiled" for name in recorded.keys() - figures.keys()]
    return sentences


def of_cuda(targets: list[str]) -> Figures:
    """Figures of every CUDA kernel."""
    return static_cuda.compile_all([target for target in targets if target in CUDA_TARGETS])


class Compiler(NamedTuple):
    """Its version, None where it is not installed; what compiles with it; the files that the figures come from."""

    version: Callable[[], str | None]
    compile_all: Callable[[list[str]], Figures]
    sources: tuple[str, ...]

    def digest(self) -> str:
        """A hash of these files, of their names, and of the compiler's version."""
        files = sorted(file for pattern in self.sources for file in ROOT.glob(pattern))
        state = repr([self.version(), *((str(file.relative_to(ROOT)), file.read_bytes()) for file in files)])
        return hashlib.sha256(state.encode()).hexdigest()


COMPILERS = {
    "triton": Compiler(
        lambda: triton.__version__,
        compile_all,
        ("mannkern/triton/**/*.py", "mannkern/memories/*.py", "bench/static*.py"),
    ),
    "nvcc": Compiler(
        static_cuda.nvcc_version,
        of_cuda,
        ("csrc/args/*", "csrc/host/*", "csrc/cuda/*", "csrc/cpu/kernels/row_math.h", "setup.py", "bench/static*.py"),
    ),
}


def check(name: str, targets: list[str], accept: bool) -> list[str]:
    """Complaints about one compiler's kernels, after printing their figures."""
    compiler = COMPILERS[name]
    version = compiler.version()
    if version is None:
        print(f"{name} is not found: its kernels are not compiled")
        return []
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    before = recorded.get(name, {"version": version, "kernels": {}})
    digest = compiler.digest()
    if before.get("digest") == digest and not accept:
        print(f"{name}: the sources and the compiler are those of {RESULTS.name}, so nothing is compiled again")
        figures = before["kernels"]
    else:
        figures = compiler.compile_all(targets)
    for kernel, by_target in figures.items():
        cells = [f"{target} {x['registers']:3}" for target, x in by_target.items()]
        print(f"{kernel:60} {'  '.join(cells)}  registers; {next(iter(by_target.values()))['warps']} warps")
    if accept:
        before = recorded[name] = {"version": version, "digest": digest, "kernels": figures}
        write(RESULTS, recorded)
    if before["version"] != version:
        print(f"recorded with {name} {before['version']}, this is {version}: not compared")
        before["kernels"] = figures
    return complaints(figures, before["kernels"] if len(targets) == len(TARGETS) else figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accept", action="store_true", help=f"write {RESULTS.name} anew instead of comparing with it")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--compilers", nargs="+", default=list(COMPILERS), choices=COMPILERS)
    arguments = parser.parse_args()
    sentences = [x for c in arguments.compilers for x in check(c, arguments.targets, arguments.accept)]
    print("\n".join(sentences))
    if sentences:
        print("If this is intended and nothing spills, run it with --accept and commit the file with the reason.")
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
