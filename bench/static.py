"""Compiles every Triton kernel ahead of time, without a GPU, and reads registers, spills and shared memory.

Kernels, types and sizes are those that the launchers ask for: they run here on tensors without storage, and what they
would launch is compiled instead. Run where TRITON_INTERPRET is not set.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from triton.backends.compiler import GPUTarget

sys.path.append(str(Path(__file__).resolve().parents[1]))

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
RESULTS = Path(__file__).parent / "results" / "static.json"
NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16"} | {
    torch.int8: "i8", torch.int32: "i32", torch.int64: "i64"
}  # fmt: skip


class Launch(NamedTuple):
    """A kernel as a launcher asks for it."""

    kernel: str
    module: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    warps: int
