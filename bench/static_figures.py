"""What compiled Triton kernels need: registers, spills, stack and shared memory, and sums that the compiler fused."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton

from bench.static_ptx import asymmetric_sums, unrounded


def figures_of(compiled: Any, backend: str, warps: int) -> dict[str, int]:
    """The figures of a kernel that Triton compiled for the backend "cuda" or "hip"."""
    figures = {"warps": warps, "shared": int(compiled.metadata.shared)}
    if backend == "hip":
        return figures | _amd(compiled.asm["amdgcn"])
    ptx = compiled.asm["ptx"]
    fused = {"asymmetric": len(asymmetric_sums(ptx)), "unrounded": len(unrounded(ptx))}
    return figures | _nvidia(compiled.asm["cubin"]) | fused


def _amd(text: str) -> dict[str, int]:
    figures = {}
    for name, field in (
        ("registers", "vgpr_count"),
        ("spills", "vgpr_spill_count"),
        ("stack", "private_segment_fixed_size"),
        ("scalars_in_vectors", "sgpr_spill_count"),
    ):
        figures[name] = int(re.search(rf"\.{field}:\s*(\d+)", text)[1])  # type: ignore[index]
    return figures


def _nvidia(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return {"registers": usage["REG"], "spills": usage["LOCAL"], "stack": usage["STACK"]}
