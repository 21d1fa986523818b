"""Launchers: tensors as the kernels want them, types, and nothing that a new B, T or view compiles again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mannkern
from mannkern.triton import tiling
from mannkern.triton.launch import common, least_used, scan, step, write_usage
from tests.helpers import CASES, MAIN_CASES, Shape, Tensors, arguments, assert_same, call, cotangents, evaluate, strided
from tests.triton.recorder import Recorder

LRUA_CASES = [name for name in MAIN_CASES if CASES[name].family == "lrua"]

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

SHAPES = {"whole": Shape(2, 9, 5, 3, 2), "tiles": Shape(1, 21, 300, 2, 2)}  # sizes that leave parts unaligned


def shifted(x: Tensor) -> Tensor:
    """The values of x, contiguous, one element past an aligned address."""
    view = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
    return view.copy_(x)


def test_ready_tensors_are_not_copied() -> None:
    x = torch.rand(4, 8)
    assert common.make_aligned(x) is x
    assert common.make_all_aligned(x, None) == [x, None]


@pytest.mark.parametrize("x", [strided(torch.rand(4, 5)), torch.rand(4, 5).mT, shifted(torch.rand(4, 5))])
def test_others_are(x: Tensor) -> None:
    got = common.make_aligned(x)
    assert got.is_contiguous()
    assert got.data_ptr() % 16 == 0
    assert torch.equal(got, x)


def test_no_elements_are_ready() -> None:
    x = torch.empty(0, 3)
    assert common.make_aligned(x) is x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", LRUA_CASES)
def test_unaligned_views(case: str, shape: str) -> None:
    tensors, gradients = arguments(CASES[case], SHAPES[shape]), cotangents(CASES[case], SHAPES[shape])
    expected = evaluate(CASES[case], tensors, gradients, "triton")
    moved = {name: shifted(x) for name, x in tensors.items()}
    assert all(x.data_ptr() % 16 for x in moved.values())
    assert_same(evaluate(CASES[case], moved, {k: shifted(x) for k, x in gradients.items()}, "triton"), expected)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every tensor that a kernel is launched with."""
    tensors: list[Tensor] = []

    def run(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
        tensors.extend(x for x in args if isinstance(x, Tensor))
        common.run(kernel, grid, warps, *args, **constants)

    for module in (least_used, scan, step, write_usage):
        monkeypatch.setattr(module, "run", run)
    return tensors


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", LRUA_CASES)
def test_kernels_get_aligned_tensors(case: str, shape: str, launched: list[Tensor]) -> None:
    """Triton compiles a kernel again for a pointer that is aligned otherwise."""
    N, W = SHAPES[shape].N, SHAPES[shape].W
    assert tiling.memory_blocks(N, W, torch.float32).whole == (shape == "whole")
    sizes = SHAPES[shape]._replace(T=6)
    evaluate(CASES[case], arguments(CASES[case], sizes), cotangents(CASES[case], sizes), "triton")
    assert launched
    assert all(x.is_contiguous() and x.data_ptr() % 16 == 0 for x in launched)


KERNELS = """
import inspect
from mannkern.triton import least_used, scan, step, write_usage
for module in (least_used, scan, step, write_usage):
    for name, f in vars(module).items():
        if getattr(f, "__module__", "") == module.__name__ and "tl.program_id(0)" in f.src:
            numbers = [x for x in f.params if not x.is_constexpr and not x.name.startswith("p_")]
            print(name, *(f"{x.name}:{x.do_not_specialize}" for x in numbers))
"""


def test_no_number_is_compiled_for() -> None:
    """What changes from call to call, B, T and span, is not specialized: no kernel takes another number."""
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    root = Path(mannkern.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout
    kernels = dict(line.split(" ", 1) if " " in line else (line, "") for line in said.splitlines())
    assert kernels.keys() == {
        "mark_least_used", "select_least_used", "write_forward", "write_backward", "usage_forward",
        "step_forward", "step_finish", "step_mean", "step_backward", "scan_forward", "scan_backward",
    }  # fmt: skip
    numbers = {name: x for name, x in kernels.items() if x}
    assert numbers == dict.fromkeys(("scan_forward", "scan_backward"), "B:True T:True checkpoint_every:True")


HALF = ("memory", "usage", "read_weights", "write_weights")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", LRUA_CASES)
def test_half_precision_is_not_converted(case: str, shape: str) -> None:
    """Kernels convert on load, so half the bytes are read; results are float32, gradients of the argument's type."""
    tensors = arguments(CASES[case], SHAPES[shape])
    half = {name: x if name in HALF or name == "reset" else x.bfloat16() for name, x in tensors.items()}
    with Recorder() as recorder:
        got = evaluate(CASES[case], half, cotangents(CASES[case], SHAPES[shape]), "triton")
    (recorded,) = recorder.calls[CASES[case].operation]
    passed = [x for x in recorded.args if isinstance(x, Tensor)]
    assert [x.dtype for x in passed] == [x.dtype for x in half.values()]
    for name, x in got.items():
        assert x.dtype == (half[name.removeprefix("grad ")].dtype if name.startswith("grad") else torch.float32), name


def test_half_precision_memory() -> None:
    """Read and written as it is; what comes of it is float32."""
    case, shape = CASES["write_reset"], SHAPES["whole"]
    half: Tensors = {k: x.bfloat16() if x.is_floating_point() else x for k, x in arguments(case, shape).items()}
    with Recorder() as recorder:
        got = evaluate(case, half, cotangents(case, shape), "triton")
    assert recorder.calls["additive_write"][0].args[0].dtype == torch.bfloat16
    assert got["memory"].dtype == torch.float32
    assert {got[f"grad {name}"].dtype for name in half if name != "reset"} == {torch.bfloat16}
    torch.testing.assert_close(got["memory"], call(case, half, "reference")["memory"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", LRUA_CASES)
def test_float64_stays_float64(case: str, shape: str) -> None:
    tensors = arguments(CASES[case], SHAPES[shape], torch.float64)
    with Recorder() as recorder:
        got = evaluate(CASES[case], tensors, cotangents(CASES[case], SHAPES[shape], torch.float64), "triton")
    assert {x.dtype for x in got.values()} == {torch.float64}
    outputs = [x for calls in recorder.calls.values() for made in calls for x in made.outputs]
    assert {x.dtype for x in outputs} <= {torch.float64, torch.int8}
