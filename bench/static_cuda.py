"""Compiles csrc/cuda/ntm.cu without a GPU, against the installed torch, which may be one for CPUs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths

sys.path.append(str(Path(__file__).resolve().parents[1]))

from setup import CUDA_SOURCE, find_nvcc, nvcc_flags
from tests.cuda import emulated

ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, dict[str, dict[str, int]]]
CACHE = ROOT / "build" / "static_cuda.json"
STANDARD = (128, 20, 4, 3)  # N, W, H, S whose shared memory is recorded; a block takes longer rows
LONG = (512, *STANDARD[1:])
ENTRY = re.compile(
    r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)
KERNEL = re.compile(
    r"(shift_sharpen|address|write)(_backward)?_kernel<(?:mannkern::)?(?:(Warp|Block), )?(float|double)>"
)


def nvcc_version() -> str | None:
    """Version of nvcc; None without it."""
    nvcc = find_nvcc()
    if nvcc is None:
        return None
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"V([\d.]+)", text)
    return found[1] if found else "unknown"


def compile_all(targets: list[str]) -> Figures:
    """Figures of every kernel by name and target, from the last time where nothing has changed since."""
    sources = sorted([*ROOT.glob("csrc/*.h"), *ROOT.glob("csrc/cuda/*"), ROOT / "setup.py", Path(__file__)])
    state = repr((nvcc_version(), torch.__version__, targets)).encode() + b"".join(x.read_bytes() for x in sources)
    key = hashlib.sha256(state).hexdigest()
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    if kept.get("key") == key:
        figures: Figures = kept["figures"]
        return figures
    figures = _compile(targets)
    CACHE.parent.mkdir(exist_ok=True)
    CACHE.write_text(json.dumps({"key": key, "figures": figures}))
    return figures


def _compile(targets: list[str]) -> Figures:
    numbers = [target.removeprefix("sm_") for target in targets]
    gpus = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    with tempfile.TemporaryDirectory() as folder:
        command = nvcc_flags(str(find_nvcc()), include_paths())
        command += [*gpus, "--threads=0", "-Werror=all-warnings", "-Xptxas=-v", "-c", CUDA_SOURCE, "-o", f"{folder}/o"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        library = emulated.build(Path(folder))
        figures: Figures = {}
        for mangled, target, stack, *spilled, registers in ENTRY.findall(done.stderr):
            name, warps, shared = _kernel(mangled, library)
            figures.setdefault(name, {})[target] = {
                "warps": warps,
                "shared": shared,
                "registers": int(registers),
                "spills": max(map(int, spilled)),
                "stack": int(stack),
            }
    return figures


def _kernel(mangled: str, library: Path) -> tuple[str, int, int]:
    """Name of a kernel, warps of a block and its shared memory."""
    tool = shutil.which("c++filt") or "cu++filt"
    plain = subprocess.run([tool, mangled], check=True, capture_output=True, text=True).stdout
    found = KERNEL.search(plain.replace("mannkern::", ""))
    if found is None:
        raise RuntimeError(f"not a kernel of the NTM: {plain}")
    base, backward, team, number = found.groups()
    operation = ("" if base == "shift_sharpen" else "ntm_") + base + (backward or "")
    dtype = torch.float32 if number == "float" else torch.float64
    sizes = LONG if team == "Block" else STANDARD
    sizes = (sizes[0], sizes[3]) if base == "shift_sharpen" else sizes
    shared = emulated.shared_memory(library, operation, dtype, *sizes)
    rows = {"Warp": ", a warp a row", "Block": ", a block a row"}.get(team, "")
    return f"{operation}: {str(dtype).removeprefix('torch.')}{rows}", 16 if team == "Block" else 4, shared
