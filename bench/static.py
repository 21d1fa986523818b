"""Compiles every GPU kernel ahead of time, without a GPU, and compares registers, spills and shared memory.

It also looks for products that a compiler fused with a sum, because equal slots then get unequal bits.
The launchers run here on tensors without storage, and the Triton kernels that they would launch are compiled, with the
types and sizes that they ask for. Needs Triton with its interpreter off and, for the CUDA kernels, nvcc and a C++
compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench import static_cuda
from bench.static_configurations import CONFIGURATIONS, Configuration
from bench.static_figures import figures_of
from mannkern.benchmark.machine import write
from mannkern.triton import controller, episode, least_used, scan, step, write_usage
from mannkern.triton.launch import controller as launch_controller
from mannkern.triton.launch import episode as launch_episode
from mannkern.triton.launch import least_used as launch_least_used
from mannkern.triton.launch import scan as launch_scan
from mannkern.triton.launch import step as launch_step
from mannkern.triton.launch import write_usage as launch_write_usage
from mannkern.triton.launch.common import compile_options
from mannkern.triton.tiling import product_blocks

RESULTS = Path(__file__).parent / "results" / "static.json"
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
LARGE_BATCH = 1024  # of an episode, whose products have other blocks then
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
TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


class Compiled(NamedTuple):
    """A kernel with the types, constants and warps that one launch asks for."""

    configuration: str
    kernel: str
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        """Kernel and configuration, and what differs where a configuration compiles a kernel twice."""
        without = ", read alone" if self.kernel.startswith("step") and self.constants.get("p_gate", 0) is None else ""
        without += ", no usage" if self.kernel == "step_finish" and self.constants.get("p_usage", 0) is None else ""
        stage = ", second stage" if self.signature.get("p_slots") == "*i32" else ""
        batch = ", large batch" if self.constants.get("BB", 0) > product_blocks(1, 1, torch.float32).BB else ""
        saved = ", nothing saved" if self.kernel == "mann_step" and self.constants.get("p_marks", 0) is None else ""
        ends = ", lengths and resets" if self.signature.get("p_phase") == "*i32" else ""
        return f"{self.kernel}: {self.configuration}{without}{stage}{batch}{saved}{ends}"


def launches(name: str, configuration: Configuration) -> Iterator[Compiled]:
    """Every kernel that the launchers would launch, for all operations, forward and backward."""
    launched: list[Compiled] = []

    def record(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
        signature, fixed = {}, dict(constants)
        for argument, value in zip(kernel.arg_names, args, strict=False):
            if value is None:
                signature[argument], fixed[argument] = "constexpr", None
            else:
                signature[argument] = TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
        signature |= dict.fromkeys(constants, "constexpr")
        launched.append(Compiled(name, kernel.__name__, signature, fixed, warps))

    with ExitStack() as patches:
        launchers = launch_least_used, launch_write_usage, launch_step, launch_scan, launch_controller, launch_episode
        for module in launchers:
            patches.enter_context(mock.patch.object(module, "run", record))
        _call_everything(configuration)
    yield from {item.name: item for item in launched}.values()


def _call_everything(c: Configuration) -> None:
    B, T = 4, 9

    def empty(*size: int, dtype: torch.dtype = c.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    memory, weights, usage = empty(B, c.N, c.W), empty(B, c.R, c.N), empty(B, c.N)
    key, gate = empty(B, c.R, c.W, dtype=c.interface), empty(B, c.R, dtype=c.interface)
    strength = empty(B, c.R, dtype=c.interface) if c.strength else None
    read, options = empty(B, c.R, c.W), (c.n, c.per_head, 0.99)
    out = launch_step.lrua_step(memory, weights, usage, key, key, gate, strength, *options)
    saved = (weights, key, key, gate, strength, memory, weights, out[-1])
    launch_step.lrua_step_backward(memory, read, weights, usage, None, *saved, *options)
    launch_step.cosine_read(memory, key, strength)
    launch_step.cosine_read_backward(read, None, memory, key, strength, weights)
    launch_least_used.least_used_mask(usage, c.n)
    reset = empty(B, dtype=torch.int64)
    launch_write_usage.additive_write(memory, weights, key, reset)
    launch_write_usage.additive_write_backward(memory, weights, key, reset)
    launch_write_usage.usage_update(usage, weights, weights, 0.99)
    keys, gates = empty(T, B, c.R, c.W, dtype=c.interface), empty(T, B, c.R, dtype=c.interface)
    strengths = empty(T, B, c.R, dtype=c.interface) if c.strength else None
    sequence = (keys, keys, gates, strengths)
    reads, *_, marks, checkpoints, weights_checkpoints = launch_scan.lrua_scan(
        memory, weights, usage, *sequence, *options, True
    )  # fmt: skip
    saved_by_scan = (marks, checkpoints, weights_checkpoints)
    launch_scan.lrua_scan_backward(reads, None, None, None, memory, weights, *sequence, *saved_by_scan, *options)
    for batch in (B, LARGE_BATCH) if c.hidden else ():
        _call_episode(c, T, batch)
    if c.hidden:
        _call_episode(c, T, B, with_ends=True)


def _call_episode(c: Configuration, T: int, B: int, with_ends: bool = False) -> None:
    def empty(*size: int, dtype: torch.dtype = c.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    F, D, reads, options = 7, c.hidden, c.R * c.W, (c.n, c.per_head, 0.99)
    gates, heads = 4 * D if c.lstm else D, 2 * reads + c.R * (2 if c.strength else 1)
    recurrent, interface = empty(gates, D if c.lstm else 0), empty(heads, D)
    weights = (empty(gates, F + reads), empty(gates), recurrent, interface, empty(heads))
    first, cell = empty(B, D + reads), empty(B, D) if c.lstm else None
    state = (first, cell, empty(B, c.N, c.W), empty(B, c.R, c.N), empty(B, c.N))
    lengths, reset = empty(B, dtype=torch.int64), empty(T, B, dtype=torch.bool)
    ends = (lengths, reset, empty(c.N, c.W)) if with_ends else (None, None, None)
    launch_episode.mann_episode(empty(T, B, F), *weights, *state, *ends, *options, False)
    outputs, _, _, _, _, *saved = launch_episode.mann_episode(empty(T, B, F), *weights, *state, *ends, *options, True)
    arguments = (empty(T, B, F), weights[0], recurrent, interface, *state[:3], outputs, *saved, *ends, *options, True)
    launch_episode.mann_episode_backward(outputs, None, None, None, None, *arguments)


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


def compile_all(targets: list[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Figures of every kernel and configuration, by name and target."""
    items = [item for name, configuration in CONFIGURATIONS.items() for item in launches(name, configuration)]
    jobs = [(item, target) for item in items for target in targets]
    figures: dict[str, dict[str, dict[str, int]]] = {item.name: {} for item in items}
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for (item, target), measured in zip(jobs, pool.map(compile_for, *zip(*jobs), chunksize=8)):
            figures[item.name][target] = measured
    return figures


def complaints(figures: dict[str, dict[str, dict[str, int]]], recorded: dict[str, Any]) -> list[str]:
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


def of_triton(targets: list[str]) -> tuple[str | None, dict[str, dict[str, dict[str, int]]]]:
    """Triton's version and the figures of every kernel."""
    return triton.__version__, compile_all(targets)


def of_cuda(targets: list[str]) -> tuple[str | None, dict[str, dict[str, dict[str, int]]]]:
    """nvcc's version and the figures of every CUDA kernel; the version is None without nvcc."""
    version = static_cuda.nvcc_version()
    return version, static_cuda.compile_all([t for t in targets if t in CUDA_TARGETS]) if version else {}


COMPILERS = {"triton": of_triton, "nvcc": of_cuda}


def check(compiler: str, targets: list[str], accept: bool) -> list[str]:
    """Complaints about one compiler's kernels, after printing their figures."""
    version, figures = COMPILERS[compiler](targets)
    if version is None:
        print(f"{compiler} is not found: its kernels are not compiled")
        return []
    for name, by_target in figures.items():
        cells = [f"{target} {x['registers']:3}" for target, x in by_target.items()]
        print(f"{name:60} {'  '.join(cells)}  registers; {next(iter(by_target.values()))['warps']} warps")
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if accept:
        recorded[compiler] = {"version": version, "kernels": figures}
        write(RESULTS, recorded)
    before = recorded.get(compiler, {"version": version, "kernels": {}})
    if before["version"] != version:
        print(f"recorded with {compiler} {before['version']}, this is {version}: not compared")
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
