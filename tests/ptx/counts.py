"""What the kernels of the standard size execute for an episode and a step, and the least time that this takes.

From the project's root: ``python -m tests.ptx.counts``. Machine code (SASS) is not run: its instructions are those of
the PTX times the ratio of the static numbers, which is an estimate.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.ptx import triton_driver, triton_kernels  # isort: skip

import torch
import triton
from torch.utils.cpp_extension import include_paths

from mannkern import functional
from setup import find_nvcc, nvcc_flags
from tests.ptx import cuda_kernels, cuda_lrua
from tests.ptx.build import ROOT
from tests.ptx.coverage import MISSING
from tests.ptx.instructions import BARRIER, BRANCH, RETURN, Instruction
from tests.ptx.machine import Program

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
MULTIPROCESSORS, CLOCK = 132, 1.755e9  # of an H100 and an H200
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes a second
B, N, W, R, LEAST, T = 2, 128, 40, 4, 4, 10
SPECIAL = ("sqrt", "rcp", "div", "rem")


def kind(i: Instruction) -> str:
    """The class of an instruction, by the unit that executes it."""
    words = i.text.split()
    parts = (words[1] if words[0].startswith("@") else words[0]).split(".")
    head, type_ = parts[0], parts[-1]
    if i.name in ("ld", "st"):
        return f"{i.name} {('generic', 'global', 'shared', 'parameter')[i.space]}"
    if i.kind in (BARRIER, BRANCH, RETURN):
        return "barrier" if i.kind == BARRIER else "branch"
    if head in ("ldmatrix", "stmatrix", "shfl", "redux", "vote", "setp", "selp", "cvt"):
        return head
    if i.name == "warp_barrier":
        return "barrier of a warp"
    if "approx" in parts or head in SPECIAL:
        return f"special {type_}"
    if head in ("mov", "cvta") or i.name in ("pack", "unpack", "move"):
        return "mov"
    if type_ in ("f32", "f64", "f32x2"):
        return f"fma {type_}" if head == "fma" else type_
    return "int64" if type_ in ("s64", "u64", "b64") or "wide" in parts else "int32"


def by_kind(program: Program) -> Counter[str]:
    """Instructions of warps in all launches of a program."""
    counted = Counter[str]()
    for i, count in zip(program.code, program.counts[0]):
        counted[kind(i)] += int(count)
    return counted


class Traffic(NamedTuple):
    """Sectors of 32 bytes that loads and stores ask for; wavefronts of shared memory, and those that conflicts add."""

    loaded: int
    stored: int
    wavefronts: int
    conflicts: int


def traffic(program: Program) -> Traffic:
    """Of all launches of a program."""
    sectors, wavefronts, least = program.counts[2:]  # as machine.COUNTS names them
    loaded, stored = (sum(int(n) for i, n in zip(program.code, sectors) if i.name == name) for name in ("ld", "st"))
    return Traffic(loaded, stored, int(wavefronts.sum()), int((wavefronts - least).sum()))


class Counted(NamedTuple):
    """A kernel that ran: its name, program, launched warps and steps, and the machine code of it and perhaps others."""

    name: str
    program: Program
    warps: int
    steps: int
    code: bytes


def run_standard(backend: str) -> Iterator[Counted]:
    """Each kernel of a step and of a scan, forward and backward."""
    g = torch.Generator().manual_seed(0)

    def leaf(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g).requires_grad_()

    for steps, function in ((1, functional.lrua_step), (T, functional.lrua_scan)):
        triton_driver.PROGRAMS.clear()
        cuda_kernels.program.cache_clear()
        cuda_lrua.PROGRAMS.clear()
        front = () if steps == 1 else (T,)
        interface = [leaf(*front, B, R, W), leaf(*front, B, R, W), leaf(*front, B, R)]
        with triton_kernels.as_on_a_gpu() if backend == "triton" else cuda_lrua.emulated():
            results = function(
                leaf(B, N, W), leaf(B, R, N), leaf(B, N), *interface, num_least_used=LEAST, backend=backend
            )
            torch.stack([(x * torch.randn(x.shape, generator=g)).sum() for x in results]).sum().backward()
        for compiled in triton_driver.PROGRAMS.values():
            code, kernel = triton_driver.assemble(compiled.kernel), compiled.kernel
            yield Counted(kernel.name, compiled.program, kernel.metadata.num_warps, steps, code)
        for name, program in cuda_lrua.PROGRAMS.items():
            yield Counted(name, program, program.warps, steps, nvcc_code(cuda_lrua.source_of(name)))


@cache
def nvcc_code(source: str) -> bytes:
    """The machine code of a file of csrc/cuda."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        command = [*nvcc_flags(str(find_nvcc()), include_paths()), "-arch=sm_90", "-cubin", f"csrc/cuda/{source}"]
        subprocess.run([*command, "-o", file.name], cwd=ROOT, check=True)
        return Path(file.name).read_bytes()


def machine_code(kernel: Counted) -> tuple[int, int]:
    """Static instructions without the padding at the end, and registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.code)
        file.flush()
        code, usage = (
            subprocess.run([str(TOOL), option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-sass", "--dump-resource-usage")
        )
    mangled = kernel.program.entry.name
    code = code.partition(f"Function : {mangled}\n")[2].partition("Function :")[0]
    names = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d\s+)?([A-Z][\w.]*)", code)
    while names and names[-1] in ("NOP", "BRA"):
        names.pop()
    registers = re.search(rf"{mangled}:\s+REG:(\d+)", usage)
    return len(names), int(registers[1]) if registers else 0


def report(backend: str) -> Iterator[str]:
    """Four lines for each kernel."""
    for kernel in run_standard(backend):
        program, warps = kernel.program, kernel.warps
        per = 1 / (B * program.launches * kernel.steps)
        instructions, registers = machine_code(kernel)
        kinds, moved = by_kind(program), traffic(program)
        total, ratio = sum(kinds.values()) * per, instructions / len(program.code)
        bytes_ = (program.sectors_read + program.sectors_written) * 32 * per
        cycles = {
            "issue": total * ratio / 4,
            "shuffles and shared memory": (kinds["shfl"] + kinds["redux"] + moved.wavefronts) * per,
            "special functions": 2 * kinds["special f32"] * per,
            "L1": (moved.loaded + moved.stored) * per / 4,
        }
        times = [f"{unit} {x / (MULTIPROCESSORS * CLOCK) * 1e9:.1f}" for unit, x in cycles.items()]
        times += [f"memory of an {gpu} {bytes_ / rate * 1e9:.1f}" for gpu, rate in BANDWIDTH.items()]
        together = min(65536 // (registers * 32 * warps), 64 // warps)
        yield f"{kernel.name}: {warps} warps, {registers} registers, {together} programs on a multiprocessor"
        yield f"    {total:.0f} instructions of warps as PTX, about {total * ratio:.0f} as machine code: " + ", ".join(
            f"{unit} {count * per:.0f}" for unit, count in kinds.most_common()
        )
        yield (
            f"    {moved.wavefronts * per:.0f} wavefronts of shared memory, {moved.conflicts * per:.0f} by conflicts; "
            f"{moved.loaded * per:.0f} sectors loaded, {moved.stored * per:.0f} stored; {bytes_:.0f} bytes of memory"
        )
        yield "    at least, in ns on all multiprocessors: " + ", ".join(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"An episode and step at N = {N}, W = {W}, R = {R}, n = {LEAST}, in float32 on sm_90")
    for backend, missing in (("triton", MISSING[False]), ("cuda", MISSING[True])):
        print(f"\nBackend {backend}: {missing or 'its kernels'}")
        for line in () if missing else report(backend):
            print(line)
