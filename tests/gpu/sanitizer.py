"""The check by compute-sanitizer, in a process of its own. As a module this runs the kernels that it looks at."""

from __future__ import annotations

import os
import shutil
import sys
import time

import torch

from bench.gpu_pool import run_command
from mannkern.verification.accuracy import evaluate
from tests.gpu import episodes
from tests.gpu.operations import inputs

SECONDS = 400.0  # for both of its tools
UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"  # with its cache, PyTorch's tensors lie in a few large allocations


def sanitizer(seconds: float = SECONDS) -> str | None:
    """compute-sanitizer finds no bad access and no race, where it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "not run: needs compute-sanitizer"
    end = time.monotonic() + seconds
    for kind in ("memcheck", "racecheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "99", sys.executable, "-m", "tests.gpu.sanitizer"]
        code, said = run_command(command, end - time.monotonic(), os.environ | {UNCACHED: "1"})
        if code is None:
            return f"not run: took more than {seconds:.0f} s, in {kind}"
        assert code == 0, f"{kind}: {said[:2000]} ... {said[-2000:]}"
    return None


def kernels() -> None:
    """The first call of each kind of episode, which is no CUDA graph yet; and every operation at every size."""
    for model in episodes.with_persistent(episodes.SMALL):
        episodes.step(model, episodes.draw(model, T=2, B=3))
    for backend, case, tensors, gradients in inputs():
        evaluate(case, tensors, gradients, backend)
    torch.cuda.synchronize()


if __name__ == "__main__":
    kernels()
