"""Compiles csrc/cuda/*.cu without a GPU, against the installed torch, even a CPU build, and reads nvcc's figures."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.static_ptx import asymmetric_sums
from setup import CUDA_SOURCES, find_nvcc, nvcc_flags
from tests.cuda import emulated, lrua, persistent

ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, dict[str, dict[str, int]]]
# Libraries that know the shared memory of a block: of the NTM, of LRUA's step, of the persistent kernels.
Emulators = tuple[Path, ctypes.CDLL, ctypes.CDLL]
ONLY_ON = {"csrc/cuda/mann.cu": ("sm_90", "sm_100")}  # other GPUs lack clusters, or shared memory
MOST_SHARED = {"mann_persistent": 227 * 1024, "mann_persistent_backward": 227 * 1024}  # of a block there
STANDARD = (128, 20, 4, 3)  # N, W, H, S at which shared memory is recorded; LONG rows take a block each
WRITE_HEADS = 2  # of an episode's step
LONG = (512, *STANDARD[1:])
ENTRY = re.compile(
    r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)
PERSISTENT = re.compile(r"mann_persistent(_backward)?_kernel")
HIDDEN = 200  # of the episode whose shared memory is recorded, with N = 128, W = 40, R = 4
STEP = re.compile(
    r"lrua_(step|step_backward|scan|scan_backward)_kernel<(?:\(int\))?(\d), (?:\(int\))?(\d+), (?:\(int\))?\d+>"
)
KERNEL = re.compile(
    r"(shift_sharpen|address|write|ntm_step|ntm_recompute)(_backward)?_kernel"
    r"<(?:mannkern::)?(?:(Warp|Block|SmallBlock), )?(float|double)>"
)


def nvcc_version() -> str | None:
    """The version of nvcc; None where it is not installed."""
    nvcc = find_nvcc()
    if nvcc is None:
        return None
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"V([\d.]+)", text)
    return match[1] if match else "unknown"


def compile_all(targets: list[str]) -> Figures:
    """Figures of every kernel by name and target."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        emulators = emulated.library(), lrua.build(), persistent.build()
        for source in CUDA_SOURCES:
            some = [target for target in targets if target in ONLY_ON.get(source, targets)]
            if some:
                figures |= _compile_source(source, some, Path(folder) / Path(source).stem, emulators)
    return figures


def _compile_source(source: str, targets: list[str], folder: Path, emulators: Emulators) -> Figures:
    numbers = [target.removeprefix("sm_") for target in targets]
    gpus = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    folder.mkdir()
    command = nvcc_flags(str(find_nvcc()), include_paths())
    command += [*gpus, "--threads=0", "-Werror=all-warnings", "-Xptxas=-v", "--keep", f"--keep-dir={folder}"]
    command += ["-c", source, "-o", f"{folder}/o"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    figures: Figures = {}
    ptx = {x.stem.split("_")[-1]: x.read_text() for x in folder.glob("*.ptx")}
    for mangled, target, stack, *spilled, registers in sorted(ENTRY.findall(done.stderr)):  # threads mix them
        name, warps, shared = _kernel(mangled, emulators)
        _, _, body = ptx[target.removeprefix("sm_")].partition(f".entry {mangled}(")
        figures.setdefault(name, {})[target] = {
            "warps": warps,
            "shared": shared,
            "registers": int(registers),
            "spills": max(map(int, spilled)),
            "stack": int(stack),
            "asymmetric": len(asymmetric_sums(body.partition(".entry ")[0])),
        }
    return figures


def _kernel(mangled: str, emulators: Emulators) -> tuple[str, int, int]:
    """A kernel's name, the warps of its block and the block's shared memory."""
    library, steps, episodes = emulators
    tool = shutil.which("c++filt") or "cu++filt"
    plain = subprocess.run([tool, mangled], check=True, capture_output=True, text=True).stdout
    if step := STEP.search(plain):
        operation, R, N = step.groups()
        sizes, warps = ("N = 128, W = 40", 2) if N == "128" else ("other sizes", 4)
        at = (ctypes.c_int64(x) for x in (128, 40, int(R)))
        bytes_ = steps.shared_memory(f"lrua_{operation}".encode(), *at)
        return f"lrua_{operation}: float32, R = {R}, {sizes}", warps, bytes_
    if whole := PERSISTENT.search(plain):
        at = (ctypes.c_int64(x) for x in (HIDDEN, 128, 40, 4))
        bytes_ = episodes.persistent_shared_memory(int(bool(whole[1])), *at)
        return f"mann_persistent{whole[1] or ''}: float32", 16, bytes_
    match = KERNEL.search(plain.replace("mannkern::", ""))
    if match is None:
        raise RuntimeError(f"not a known kernel: {plain}")
    base, backward, team, number = match.groups()
    operation = ("ntm_" if base in ("address", "write") else "") + base + (backward or "")
    dtype = torch.float32 if number == "float" else torch.float64
    sizes = STANDARD if team in ("Warp", None) else LONG
    sizes = (sizes[0], sizes[3]) if base == "shift_sharpen" else (*sizes, WRITE_HEADS) if base == "ntm_step" else sizes
    shared = emulated.shared_memory(library, operation, dtype, *sizes)
    rows = {None: "", "Warp": ", a warp a row"}.get(team, ", a block a row")
    return f"{operation}: {str(dtype).removeprefix('torch.')}{rows}", 16 if team == "Block" else 4, shared
