"""A lack of memory inside a compiled operation is told as PyTorch's own, so that callers know it from other errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import re
import resource
import sys

import torch

from mannkern import MANN, functional
from mannkern.training.errors import is_out_of_memory

torch.set_num_threads(2)

def outputs():
    model, x = MANN(20, 200, backend="cpp"), torch.randn(400, 64, 20)
    model(x[:2])
    return lambda: model(x)

def parallel_loops():
    B, N, W, T = 2, 16384, 64, 9
    memory = torch.rand(B, N, W, requires_grad=True)
    scan = functional.lrua_scan(memory, torch.rand(B, 1, N), torch.rand(B, N), *torch.rand(2, T, B, 1, W),
                                torch.rand(T, B, 1), backend="cpp")
    loss = scan.reads.sum() + scan.memory.sum()
    return lambda: torch.autograd.grad(loss, memory, retain_graph=True)

def copies():
    memory = torch.rand(64, 40, 16384).mT
    return lambda: torch.ops.mannkern.cosine_read(memory, torch.rand(64, 1, 40), torch.ones(64, 1))

call = globals()[sys.argv[1]]()
now = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
for more in (5, 10, 20, 30, 50, 80, 120, 160):
    resource.setrlimit(resource.RLIMIT_AS, (now + more * 2**20, resource.RLIM_INFINITY))
    error = None
    try:
        call()
    except (MemoryError, RuntimeError) as caught:
        error = caught
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if error is not None:
        print("known" if is_out_of_memory(error) else repr(error))
call()
print("works afterwards")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
@pytest.mark.parametrize("situation", ["outputs", "parallel_loops", "copies"])
def test_a_lack_of_memory_is_known(situation: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, situation], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *errors, last = done.stdout.splitlines()
    assert last == "works afterwards"
    assert errors
    assert set(errors) == {"known"}
