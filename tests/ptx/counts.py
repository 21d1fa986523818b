"""What the kernels of the standard size execute for an episode and a step, and the least time that this takes.

From the project's root: ``python -m tests.ptx.counts [--gpu 90] [--json FILE]``. Machine code (SASS) is not run: its
instructions are those of the PTX times the ratio of the static numbers, which is an estimate.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.ptx import triton_driver, triton_kernels  # isort: skip

import torch
import triton

from mannkern import functional
from tests.ptx import cuda_kernels, cuda_lrua
from tests.ptx.coverage import MISSING
from tests.ptx.instructions import BARRIER, BRANCH, RETURN, Instruction
from tests.ptx.machine import Program
from tests.ptx.session import SESSION

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


class Ran(NamedTuple):
    """A kernel that was run for ``steps`` steps of all episodes; ``assemble`` makes its machine code."""

    backend: str
    name: str
    program: Program
    steps: int
    warps: int
    assemble: Callable[[], bytes]


class Counted(NamedTuple):
    """What a kernel does for an episode and a step.

    issue, shared: cycles of a multiprocessor that issuing its instructions takes, and its shuffles and shared memory
    bytes:         of device memory, if each sector is moved once
    """

    backend: str
    kernel: str
    warps: int
    registers: int
    instructions: float
    issue: float
    shared: float
    bytes: float


def run_standard() -> Iterator[Ran]:
    """Each kernel of a step and of a scan, forward and backward, on each backend that can be compiled here."""
    if not MISSING[False]:
        for steps, function in ((1, functional.lrua_step), (T, functional.lrua_scan)):
            triton_driver.PROGRAMS.clear()
            _call(steps, function, "triton", triton_kernels.as_on_a_gpu())
            for compiled in triton_driver.PROGRAMS.values():
                kernel = compiled.kernel
                machine_code = partial(triton_driver.assemble, kernel)
                yield Ran("triton", kernel.name, compiled.program, steps, kernel.metadata.num_warps, machine_code)
    if not MISSING[True]:
        for steps, function in ((1, functional.lrua_step), (T, functional.lrua_scan)):
            cuda_kernels.program.cache_clear()
            cuda_lrua.PROGRAMS.clear()
            _call(steps, function, "cuda", cuda_lrua.emulated())
            for name, program in cuda_lrua.PROGRAMS.items():
                machine_code = partial(cuda_kernels.assemble, cuda_lrua.source_of(name), SESSION.arch)
                yield Ran("cuda", name, program, steps, program.warps, machine_code)


def _call(steps: int, function: Callable[..., object], backend: str, where: AbstractContextManager[None]) -> None:
    """An operation and its gradient."""
    g = torch.Generator().manual_seed(0)

    def leaf(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g).requires_grad_()

    front = () if steps == 1 else (T,)
    interface = [leaf(*front, B, R, W), leaf(*front, B, R, W), leaf(*front, B, R)]
    with where:
        results = function(leaf(B, N, W), leaf(B, R, N), leaf(B, N), *interface, num_least_used=LEAST, backend=backend)
        sums = [(x * torch.randn(x.shape, generator=g)).sum() for x in results]  # type: ignore[attr-defined]
        torch.stack(sums).sum().backward()


def machine_code(cubin: bytes, kernel: str) -> tuple[int, int]:
    """A kernel's static instructions without the padding at the end, and its registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        code, usage = (
            subprocess.run([str(TOOL), option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-sass", "--dump-resource-usage")
        )
    body = code.partition(f"Function : {kernel}\n")[2].partition("Function :")[0]
    names = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d\s+)?([A-Z][\w.]*)", body)
    while names and names[-1] in ("NOP", "BRA"):
        names.pop()
    registers = re.search(r"REG:(\d+)", usage.partition(f"Function {kernel}:")[2])
    return len(names), int(registers[1]) if registers else 0


def count(ran: Ran) -> Counted:
    """The counts of a kernel."""
    per = 1 / (B * ran.program.launches * ran.steps)
    static, registers = machine_code(ran.assemble(), ran.program.entry.name)
    kinds, moved = by_kind(ran.program), traffic(ran.program)
    total = sum(kinds.values()) * per * static / len(ran.program.code)
    shared = (kinds["shfl"] + kinds["redux"] + moved.wavefronts) * per
    bytes_ = (ran.program.sectors_read + ran.program.sectors_written) * 32 * per
    return Counted(ran.backend, ran.name, ran.warps, registers, total, total / 4, shared, bytes_)


def report(ran: Ran) -> Iterator[str]:
    """Four lines for a kernel."""
    counted, program, per = count(ran), ran.program, 1 / (B * ran.program.launches * ran.steps)
    kinds, moved = by_kind(program), traffic(program)
    cycles = {
        "issue": counted.issue,
        "shuffles and shared memory": counted.shared,
        "special functions": 2 * kinds["special f32"] * per,
        "L1": (moved.loaded + moved.stored) * per / 4,
    }
    times = [f"{unit} {x / (MULTIPROCESSORS * CLOCK) * 1e9:.1f}" for unit, x in cycles.items()]
    times += [f"memory of an {gpu} {counted.bytes / rate * 1e9:.1f}" for gpu, rate in BANDWIDTH.items()]
    together = min(65536 // (counted.registers * 32 * ran.warps), 64 // ran.warps)
    yield f"{ran.name}: {ran.warps} warps, {counted.registers} registers, {together} programs on a multiprocessor"
    yield (
        f"    {sum(kinds.values()) * per:.0f} instructions of warps as PTX, about {counted.instructions:.0f} as "
        f"machine code: {', '.join(f'{unit} {number * per:.0f}' for unit, number in kinds.most_common())}"
    )
    yield (
        f"    {moved.wavefronts * per:.0f} wavefronts of shared memory, {moved.conflicts * per:.0f} by conflicts; "
        f"{moved.loaded * per:.0f} sectors loaded, {moved.stored * per:.0f} stored; {counted.bytes:.0f} bytes of memory"
    )
    yield "    at least, in ns on all multiprocessors: " + ", ".join(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=90, help="90 for sm_90")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    SESSION.arch = options.gpu
    print(f"An episode and step at N = {N}, W = {W}, R = {R}, n = {LEAST}, in float32 on sm_{options.gpu}")
    counted = []
    for ran in run_standard():
        print("\n".join(report(ran)), flush=True)
        counted.append(count(ran)._asdict())
    if options.json:
        options.json.write_text(json.dumps({"gpu": f"sm_{options.gpu}", "kernels": counted}))


if __name__ == "__main__":
    main()
