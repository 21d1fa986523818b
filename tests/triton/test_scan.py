"""The scan: T steps in one kernel or in tiles, its checkpoints, its scratch memory, the slots of many steps."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from mannkern import functional
from mannkern.memories.lrua.ops import scan as operation
from mannkern.triton import tiling
from tests.helpers import (
    CASES,
    Shape,
    arguments,
    assert_same,
    check_kernel,
    convert,
    cotangents,
    evaluate,
    relative_errors,
    run_case,
    same,
)
from tests.memories.lrua.scans import STATE, by_steps, episode, many_steps
from tests.triton.recorder import Recorder
from tests.triton.table import first_tiled, path

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

SHAPES = {"whole": Shape(1, 9, 3, 1, 2), "tiles": Shape(1, first_tiled(300), 300, 1, 2)}


def num_checkpoints(T: int) -> int:
    return -(-T // operation.recompute_checkpoint_every(T)) - 1


SHORT_SEGMENT = next(T for T in count(1) if num_checkpoints(T) and T % operation.recompute_checkpoint_every(T))
WHOLE_SEGMENTS = next(T for T in count(1) if num_checkpoints(T) and T % operation.recompute_checkpoint_every(T) == 0)


def test_example() -> None:
    """A memory of one slot: each step sets it to zero and writes the add to it, whatever the gate, and reads that.

    Both weights are always 1, so the usage is 0, then 0 / 2 + 2 = 2, then 2 / 2 + 2 = 3.
    """
    keys, adds = torch.tensor([[[[1.0, 0]]], [[[0.0, 1]]]]), torch.tensor([[[[5.0, 6]]], [[[7.0, 8]]]])
    state = torch.tensor([[[1.0, 2]]]), torch.ones(1, 1, 1), torch.zeros(1, 1)
    scan = functional.lrua_scan(*state, keys, adds, torch.zeros(2, 1, 1), decay=0.5, backend="triton")
    torch.testing.assert_close(scan.reads.flatten(), torch.tensor([5.0, 6, 7, 8]))
    assert scan.memory.flatten().tolist() == [7, 8]
    assert scan.usage.item() == 3


@pytest.mark.parametrize("where", SHAPES)
def test_scan_is_its_steps(where: str) -> None:
    """From the initial state of a cell, a float64 scan and its gradients equal those of its steps."""
    case = CASES["scan_strength_per_head"]
    N = min(SHAPES[where].N, first_tiled(SHAPES[where].W, torch.float64))
    shape = SHAPES[where]._replace(N=N, R=2, T=3 if where == "whole" else 2)
    assert path(case, shape, torch.float64).startswith(where)
    tensors, gradients = episode(case, shape, torch.float64), cotangents(case, shape, torch.float64)
    got = evaluate(case, tensors, gradients, "triton", shape.n)
    errors = relative_errors(got, by_steps(case, tensors, gradients, shape.n, "triton"))
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.parametrize("T", [1, SHORT_SEGMENT, WHOLE_SEGMENTS])
def test_lengths(T: int) -> None:
    """The lengths are one step, a last segment shorter than the others, and segments of equal length."""
    case, shape = CASES["scan_strength_per_head"], SHAPES["whole"]._replace(T=T)
    check_kernel(case, episode(case, shape, torch.float64), cotangents(case, shape, torch.float64), "triton", shape.n)


@pytest.mark.parametrize(("where", "T", "every"), [("whole", 3, 1), ("whole", 5, 2), ("tiles", 3, 2)])
def test_several_checkpoints(where: str, T: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment begins from its own checkpoint: the number of steps between checkpoints changes no bit."""
    case, shape = CASES["scan"], SHAPES[where]._replace(T=T, **({"B": 2, "R": 2} if where == "whole" else {}))
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    monkeypatch.setattr(operation, "recompute_checkpoint_every", lambda T: T)
    expected = evaluate(case, tensors, gradients, "triton", shape.n)
    monkeypatch.setattr(operation, "recompute_checkpoint_every", lambda T: every)
    assert_same(evaluate(case, tensors, gradients, "triton", shape.n), expected)


@pytest.mark.parametrize("B", [1, 2 * tiling.INTERPRETED_PROGRAMS + 1])
def test_more_episodes_than_programs(B: int) -> None:
    """Programs of the backward pass use their scratch memory again for each episode; a last episode is as if alone."""
    case, shape = CASES["scan"], Shape(B, 12, 5, 2, 2, T=2)
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    got = check_kernel(case, tensors, gradients, "triton", shape.n)
    last = {name: x.narrow(int(name in ("keys", "adds", "gates")), B - 1, 1) for name, x in tensors.items()}
    gradients = {name: x.narrow(int(name == "reads"), B - 1, 1) for name, x in gradients.items()}
    alone = evaluate(case, last, gradients, "triton", shape.n)
    assert same(alone["grad memory"], got["grad memory"][-1:])
    assert same(alone["grad keys"], got["grad keys"][:, -1:])


@pytest.mark.parametrize("used", ["reads", "memory", "read_weights", "usage"])
@pytest.mark.parametrize("where", SHAPES)
def test_gradient_of_one_result(where: str, used: str) -> None:
    case, shape = CASES["scan"], SHAPES[where]._replace(T=2)
    check_kernel(case, arguments(case, shape), {used: cotangents(case, shape)[used]}, "triton", shape.n)


@pytest.mark.parametrize("T", [1, SHORT_SEGMENT])
@pytest.mark.parametrize("where", SHAPES)
def test_what_is_saved(where: str, T: int) -> None:
    """A scan saves the marks of every step and a few checkpoints of the memory; under no_grad it saves nothing."""
    case, shape = CASES["scan"], SHAPES[where]._replace(T=T)
    assert path(case, shape, torch.float32).startswith(where)
    tensors = arguments(case, shape)
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    with Recorder() as recorder:
        node_tensors = run_case(case, leaves, "triton", shape.n)["reads"].grad_fn.saved_tensors
        with torch.no_grad():
            run_case(case, leaves, "triton", shape.n)
    saved, (*_, marks, checkpoints, weights_checkpoints) = (x.outputs[4:] for x in recorder.calls["lrua_scan"])
    num = num_checkpoints(T)
    assert [x.shape for x in saved] == [(T, 1, shape.N), (num, 1, shape.N, shape.W), (num, 1, 1, shape.N)]
    assert saved[0].dtype == torch.int8
    assert ((saved[0] > 0).sum(-1) == shape.n).all()
    assert marks.numel() == checkpoints.numel() == weights_checkpoints.numel() == 0
    passed = {x.data_ptr() for x in tensors.values()}
    floats = [x for x in node_tensors if x is not None and x.is_floating_point() and x.data_ptr() not in passed]
    assert sum(x.numel() for x in floats) == num * shape.N * (shape.W + 1)


@pytest.mark.parametrize(("where", "dtype"), [("whole", torch.float16), ("tiles", torch.bfloat16)])
def test_half_precision_beside_a_float32_state(where: str, dtype: torch.dtype) -> None:
    """Results are those of the same values in float32; a gradient has the type of its argument."""
    case, shape = CASES["scan_strength_per_head"], SHAPES[where]._replace(R=2, T=2)
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    half = {name: x if name in STATE else x.to(dtype) for name, x in tensors.items()}
    with Recorder() as recorder:
        got = evaluate(case, half, gradients, "triton", shape.n)
    passed = [x.dtype for x in recorder.calls["lrua_scan"][0].args if isinstance(x, torch.Tensor)]
    assert passed == [x.dtype for x in half.values()]
    full = evaluate(case, convert(half, torch.float32), gradients, "triton", shape.n)
    for name, x in full.items():
        expected = x.to(half[name.removeprefix("grad ")].dtype) if name.startswith("grad") else x
        assert got[name].dtype == expected.dtype, name
        torch.testing.assert_close(got[name], expected, rtol=2 * torch.finfo(expected.dtype).eps, atol=1e-6)


def test_many_steps_mark_the_right_slots() -> None:
    """The interpreter has time for 80 steps; tests/memories/lrua runs a thousand on the compiled kernels."""
    with Recorder() as recorder:
        chosen = many_steps("triton", 80)
    marks = recorder.calls["lrua_scan"][0].outputs[4]
    assert torch.equal(chosen, marks.argmax(-1)[:, 0])
