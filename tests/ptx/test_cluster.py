"""Clusters in the emulator: what blocks give to each other, barriers of parts of a block, tensor cores; mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from setup import find_nvcc
from tests.ptx.build import COMPILER, cached
from tests.ptx.machine import Buffer, Finding, Program, address
from tests.ptx.parse import Module

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,  # the first one compiles the core
]
BLOCKS, THREADS = 2, 64
PLANTED = {
    "given": set(),
    "seen": set(),
    "parts": set(),
    "given_without_turns": {"race in shared memory: read, write"},
    "given_before_the_first_barrier": {
        "mbarrier whose init may come later",
        "shared memory of a block that may not have begun",
    },
    "read_too_early": {"race in shared memory: read, write"},
    "waited_once": {"race in shared memory: write, read"},
    "left_too_early": {"shared memory of a block that has left"},
    "too_few_bytes": {"deadlock in a cluster"},
    "seen_without_barrier": {"race in shared memory: write, read"},
    "seen_of_a_block_that_left": {"shared memory of a block that has left"},
    "parts_in_the_wrong_order": {"race in shared memory: write, read"},
    "barrier_of_too_many": {"deadlock in a cluster"},
}
ORDERS = 20  # a mistake may show in some orders of warps only


@pytest.fixture(scope="module")
def planted() -> Module:
    """The PTX of planted_cluster.cu."""
    nvcc, source = find_nvcc(), Path(__file__).with_name("planted_cluster.cu")
    if nvcc is None:
        pytest.skip("nvcc is not found: kernels with planted mistakes are not compiled")

    def compile_(path: Path) -> None:
        subprocess.run([nvcc, "-arch=sm_90", "-ptx", "-O3", "-lineinfo", str(source), "-o", str(path)], check=True)

    return Module(cached("planted_cluster.ptx", [source], compile_).read_text())


def run(module: Module, name: str, x: np.ndarray, seed: int) -> tuple[np.ndarray, list[Finding]]:
    """What a kernel writes, and what is wrong with it."""
    y = np.zeros(BLOCKS * THREADS, np.float32)
    buffers = [Buffer(a.ctypes.data, a.nbytes, a.itemsize) for a in (x, y)]
    words = b"".join(address(k, b.host).to_bytes(8, "little") for k, b in enumerate(buffers))
    program = Program(module.entry(name))
    found = program.launch(
        (BLOCKS, 1, 1), THREADS, module.static_shared, words, buffers, seed=seed, perturb=seed, cluster=BLOCKS
    )
    return y, found


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_found(name: str, planted: Module) -> None:
    """Each mistake is found, and nothing in the kernels without one."""
    x = np.random.default_rng(0).random(BLOCKS * THREADS, np.float32)
    found = {f.kind for seed in range(ORDERS) for f in run(planted, name, x, seed)[1]}
    assert found >= PLANTED[name]
    assert bool(found) == bool(PLANTED[name]), found


def test_results(planted: Module) -> None:
    """What a block gets is the other block's, in reverse."""
    x = np.random.default_rng(0).random(BLOCKS * THREADS, np.float32)
    own = x.reshape(BLOCKS, THREADS)
    for _ in range(3):
        own = own + own[::-1, ::-1]
    assert np.array_equal(run(planted, "given", x, 1)[0], own.ravel())
    assert np.array_equal(run(planted, "seen", x, 1)[0], x)
    halves = x.reshape(BLOCKS, 2, 32)[:, 0, ::-1]
    assert np.array_equal(run(planted, "parts", x, 1)[0].reshape(BLOCKS, 2, 32)[:, 1], halves)


def test_tensor_cores(planted: Module) -> None:
    """Small whole numbers are multiplied exactly; of others, the upper 11 bits are, and sums are rounded to zero."""
    g = np.random.default_rng(0)
    whole = g.integers(-9, 9, 192).astype(np.float32)
    for x in (whole, g.standard_normal(192, np.float32)):
        upper = (x.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float64)
        truth = upper[:128].reshape(16, 8) @ upper[128:].reshape(8, 8)
        for seed in (0, 1):  # the second one with the error that the hardware may have
            y, found = run(planted, "product", x, seed)
            assert found == []
            np.testing.assert_allclose(y.reshape(16, 8), truth, rtol=0, atol=0 if x is whole else 2e-6)


def test_a_launch_without_a_cluster(planted: Module) -> None:
    x = np.zeros(BLOCKS * THREADS, np.float32)
    program, buffers = Program(planted.entry("seen")), [Buffer(x.ctypes.data, x.nbytes, 4)] * 2
    words = b"".join(address(k, x.ctypes.data).to_bytes(8, "little") for k in range(2))
    found = program.launch((BLOCKS, 1, 1), THREADS, planted.static_shared, words, buffers)
    assert "instruction of a cluster, but the launch has none" in {f.kind for f in found}
