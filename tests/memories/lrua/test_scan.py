"""The scan equals its steps for any T and saves at most seven checkpoints; a thousand steps stay accurate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mannkern import functional
from mannkern.backends import native
from tests.helpers import (
    CASES,
    CPP,
    Shape,
    arguments,
    assert_same,
    cotangents,
    evaluate,
    on_kernels,
    relative_errors,
    run_case,
    same,
)
from tests.memories.lrua.scans import by_steps, episode, many_steps
from tests.recorder import Recorder


def test_example() -> None:
    """A memory of one slot: each step sets it to zero and writes the add to it, whatever the gate, and reads that.

    Both weights are always 1, so the usage is 0, then 0 / 2 + 2 = 2, then 2 / 2 + 2 = 3.
    """
    keys, adds = torch.tensor([[[[1.0, 0]]], [[[0.0, 1]]]]), torch.tensor([[[[5.0, 6]]], [[[7.0, 8]]]])
    state = torch.tensor([[[1.0, 2]]]), torch.ones(1, 1, 1), torch.zeros(1, 1)
    scan = functional.lrua_scan(*state, keys, adds, torch.zeros(2, 1, 1), decay=0.5, backend="cpp")
    assert scan.reads.flatten().tolist() == [5, 6, 7, 8]
    assert scan.memory.flatten().tolist() == [7, 8]
    assert scan.usage.item() == 3


pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


@pytest.mark.parametrize("T", [1, 2, 5, 8, 9, 49, 64, 65, 200])
@pytest.mark.parametrize("case", ["scan", "scan_strength_per_head"])
def test_is_its_steps(case: str, T: int) -> None:
    """One step, and last segments of full and of smaller length: segments have sqrt(T) steps, over T = 64 T/8 steps."""
    shape = Shape(3, 9, 5, 2, 2, T=T)
    tensors = (arguments if T < 9 else episode)(CASES[case], shape, torch.float64)
    gradients = cotangents(CASES[case], shape, torch.float64)
    got = evaluate(CASES[case], tensors, gradients, "cpp", shape.n)
    errors = relative_errors(got, by_steps(CASES[case], tensors, gradients, shape.n, "cpp"))
    assert max(errors.values()) < 1e-11, errors


@pytest.mark.slow
@on_kernels(["scan"], interpreted=False)
def test_thousand_steps_do_not_drift(kernel: str, case: str) -> None:
    many_steps(kernel, 1000)


def recorded(T: int) -> Recorder:
    """A scan of T steps and its gradient, as the package calls the operations."""
    tensors = arguments(CASES["scan"], Shape(2, 9, 5, 2, 2, T=T))
    with Recorder() as recorder:
        run_case(CASES["scan"], {name: x.requires_grad_() for name, x in tensors.items()}, "cpp", 2)[
            "reads"
        ].sum().backward()
    return recorder


@pytest.mark.parametrize(("T", "count"), [(1, 0), (2, 0), (5, 1), (50, 6), (64, 7), (65, 7), (1000, 7)])
def test_keeps_at_most_seven_states(T: int, count: int) -> None:
    ((args, _),) = recorded(T).calls["lrua_scan_backward"]
    assert args[11].shape[0] == count


def test_keeps_nothing_without_gradients() -> None:
    tensors = arguments(CASES["scan"], Shape(2, 9, 5, 2, 2, T=50))
    with Recorder() as recorder, torch.no_grad():
        run_case(CASES["scan"], tensors, "cpp", 2)
    (((*_, keep), _),) = recorder.calls["lrua_scan"]
    assert keep is False
    ((kept, _),) = recorded(50).calls["lrua_scan_backward"]
    with pytest.raises(RuntimeError, match="saved nothing for a backward pass"):
        torch.ops.mannkern.lrua_scan_backward(*kept[:11], kept[11][:0], *kept[12:])


@pytest.mark.skipif(len(CPP) < 2, reason="one instruction set here")
@pytest.mark.parametrize("N", [9, 32])  # 32 slots are whole blocks of every set, so as many numbers
def test_what_another_instruction_set_kept_is_refused(N: int) -> None:
    before, others = native.isa(), [isa for _, isa in CPP]
    tensors = arguments(CASES["scan"], Shape(2, N, 5, 2, 2, T=50))
    reads: Tensor = run_case(CASES["scan"], {name: x.requires_grad_() for name, x in tensors.items()}, "cpp", 2)[
        "reads"
    ]
    native.set_isa(next(isa for isa in others if isa != before))
    try:
        with pytest.raises(RuntimeError, match="another instruction set"):
            reads.sum().backward()
    finally:
        native.set_isa(before)


def test_threads_and_neighbours_change_no_bit(threads: Callable[[int], None]) -> None:
    shape = Shape(7, 128, 40, 4, 4, T=20)  # work for two threads
    tensors, gradients = arguments(CASES["scan"], shape), cotangents(CASES["scan"], shape)
    state, interface = list(tensors.values())[:3], list(tensors.values())[3:]
    results = []
    for count in (1, 2):
        threads(count)
        results.append(evaluate(CASES["scan"], tensors, gradients, "cpp", shape.n))
    assert_same(*results)
    whole = functional.lrua_scan(*state, *interface, backend="cpp")
    for b in range(7):
        part = slice(b, b + 1)
        alone = functional.lrua_scan(*(x[part] for x in state), *(x[:, part] for x in interface), backend="cpp")
        assert same(alone.reads[:, 0], whole.reads[:, b])
        assert same(alone.memory[0], whole.memory[b])


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_frees_the_memories_that_it_computes_again() -> None:
    """Backward holds T / 8 memories, 64 MB here, of which a thread keeps at most 16 MB for the next call."""

    def run(T: int) -> None:
        memory, keys = torch.zeros(1, 2048, 64, requires_grad=True), torch.randn(T, 1, 4, 64)
        state = memory, torch.full((1, 4, 2048), 1 / 2048), torch.rand(1, 2048)
        functional.lrua_scan(*state, keys, keys, torch.randn(T, 1, 4), backend="cpp").reads.sum().backward()

    run(2)
    before = resident()
    run(1000)
    assert resident() - before < 40e6
