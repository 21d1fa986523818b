"""Launchers pass aligned contiguous tensors, and no argument for which a new B, T or view compiles a kernel again."""

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
from mannkern.memories.lrua.ops import scan as operation
from mannkern.triton.launch import common, least_used, plan, scan, step, write_usage
from tests.helpers import (
    CASES,
    MAIN_CASES,
    Shape,
    Tensors,
    arguments,
    assert_same,
    cotangents,
    evaluate,
    run_case,
    strided,
)
from tests.triton.recorder import Recorder
from tests.triton.table import first_tiled, path

LRUA_CASES = [name for name in MAIN_CASES if CASES[name].operation.family == "lrua"]

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

SHAPES = {  # odd sizes, which leave the parts of a tensor unaligned
    "whole": Shape(2, 9, 5, 3, 2),
    "tiles": Shape(1, first_tiled(299), 299, 1, 2),
}


def test_example() -> None:
    """With per-head slots, 4 heads need the first 4 of 20 least used slots; with shared slots all 20 are marked."""
    assert common.num_ranked_slots(20, True, 4) == 4
    assert common.num_ranked_slots(20, False, 4) == 20
    assert common.num_ranked_slots(2, True, 4) == 2


def test_sum_of_tiles() -> None:
    """The gradients (1, 2) of one tile and (10, 20) of another add up to (11, 22); those of a single tile stay."""
    assert common.sum_tiles(torch.tensor([[[1.0, 2], [10, 20]]]), torch.float64).tolist() == [[11, 22]]
    assert common.sum_tiles(torch.tensor([[[1.0, 2]]]), torch.float64).tolist() == [[1, 2]]


def test_options_of_the_compiler() -> None:
    """No compiler may fuse products with sums; 8 warps share 65536 registers, so that a thread gets at most 255."""
    assert common.compile_options(8, "hip") == {"enable_fp_fusion": False}
    assert common.compile_options(8, "cuda") == {"enable_fp_fusion": False, "maxnreg": 255}
    assert common.compile_options(16, "cuda")["maxnreg"] == 128


def shifted(x: Tensor) -> Tensor:
    """The values of x, contiguous, one element past an aligned address."""
    view = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
    return view.copy_(x)


def test_aligned_tensors_are_not_copied() -> None:
    x = torch.rand(4, 8)
    assert common.make_aligned(x) is x
    assert common.make_all_aligned(x, None) == [x, None]


@pytest.mark.parametrize("x", [strided(torch.rand(4, 5)), torch.rand(4, 5).mT, shifted(torch.rand(4, 5))])
def test_others_are_copied(x: Tensor) -> None:
    got = common.make_aligned(x)
    assert got.is_contiguous()
    assert got.data_ptr() % 16 == 0
    assert torch.equal(got, x)


def test_empty_tensors_are_aligned() -> None:
    x = torch.empty(0, 3)
    assert common.make_aligned(x) is x


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The list of all tensors with which kernels are launched."""
    tensors: list[Tensor] = []

    def run(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
        tensors.extend(x for x in args if isinstance(x, Tensor))
        common.run(kernel, grid, warps, *args, **constants)

    for module in (least_used, scan, step, write_usage):
        monkeypatch.setattr(module, "run", run)
    return tensors


@pytest.mark.parametrize("where", SHAPES)
@pytest.mark.parametrize("case", LRUA_CASES)
def test_kernels_get_aligned_tensors(
    case: str, where: str, launched: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton would compile a kernel again for an unaligned pointer, so views are copied; they change no bit."""
    monkeypatch.setattr(operation, "recompute_checkpoint_every", lambda T: 1)  # several checkpoints
    shape = SHAPES[where]
    if case != "usage":
        assert path(CASES[case], shape, torch.float32).startswith(where)
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    expected = evaluate(CASES[case], tensors, gradients, "triton")
    moved = {name: shifted(x) for name, x in tensors.items()}
    assert all(x.data_ptr() % 16 for x in moved.values())
    assert_same(evaluate(CASES[case], moved, {k: shifted(x) for k, x in gradients.items()}, "triton"), expected)
    assert launched
    assert all(x.is_contiguous() and x.data_ptr() % 16 == 0 for x in launched)


KERNELS = """
import inspect
from mannkern.triton import controller, episode, least_used, scan, step, write_usage
for module in (controller, episode, least_used, scan, step, write_usage):
    for name, f in vars(module).items():
        if getattr(f, "__module__", "") == module.__name__ and "tl.program_id(0)" in f.src:
            numbers = [x for x in f.params if not x.is_constexpr and not x.name.startswith("p_")]
            print(name, *(f"{x.name}:{x.do_not_specialize}" for x in numbers))
"""


def test_no_number_is_compiled_for() -> None:
    """B, T, the step and other numbers that change from call to call are not specialized."""
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    root = Path(mannkern.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", KERNELS], cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout
    kernels = dict(line.split(" ", 1) if " " in line else (line, "") for line in said.splitlines())
    assert kernels.keys() == {
        "mark_least_used", "select_least_used", "write_forward", "write_backward", "usage_forward",
        "step_forward", "step_finish", "step_mean", "step_backward", "scan_forward", "scan_backward",
        "lstm_forward", "layer_forward", "interface_forward", "lstm_backward", "layer_backward", "output_backward",
        "mann_step", "mann_recompute", "mann_step_backward",
    }  # fmt: skip
    numbers = {name: x for name, x in kernels.items() if x}
    scans = dict.fromkeys(("scan_forward", "scan_backward"), "B:True T:True checkpoint_every:True")
    assert {name: x for name, x in numbers.items() if name in scans} == scans
    assert all(word.endswith(":True") for x in numbers.values() for word in x.split())
    assert all(
        "B:True" in x and ("t:True" in x or "begin:True" in x) for name, x in numbers.items() if name not in scans
    )


STATE = ("memory", "usage", "read_weights", "write_weights")


@pytest.mark.parametrize("where", SHAPES)
@pytest.mark.parametrize("case", [name for name in LRUA_CASES if name not in ("usage", "scan")])
def test_half_precision_beside_a_float32_state(case: str, where: str) -> None:
    """Inputs have half precision, as under autocast. Kernels convert on load and so read half the bytes; a gradient has
    the type of its argument.

    The usage update has no half-precision argument there, and the scan is in test_scan.py.
    """
    shape = SHAPES[where]._replace(R=1)
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    half = {name: x if name in STATE or name == "reset" else x.bfloat16() for name, x in tensors.items()}
    with Recorder() as recorder:
        got = evaluate(CASES[case], half, gradients, "triton")
    (recorded,) = recorder.calls[CASES[case].operation.name]
    passed = [x for x in recorded.args if isinstance(x, Tensor)]
    assert [x.dtype for x in passed] == [x.dtype for x in half.values()]
    for name, x in got.items():
        assert x.dtype == (half[name.removeprefix("grad ")].dtype if name.startswith("grad") else torch.float32), name


def test_half_precision_memory() -> None:
    """The kernel reads a half-precision memory itself, without a float32 copy; the written memory is float32."""
    case, shape = CASES["write_reset"], SHAPES["whole"]
    half: Tensors = {k: x.bfloat16() if x.is_floating_point() else x for k, x in arguments(case, shape).items()}
    with Recorder() as recorder:
        got = evaluate(case, half, cotangents(case, shape), "triton")
    assert recorder.calls["additive_write"][0].args[0].dtype == torch.bfloat16
    assert got["memory"].dtype == torch.float32
    assert {got[f"grad {name}"].dtype for name in half if name != "reset"} == {torch.bfloat16}
    torch.testing.assert_close(got["memory"], run_case(case, half, "reference")["memory"])


@pytest.mark.parametrize(
    ("dtype", "D", "most"),
    [(torch.float32, 8, 2_097_120), (torch.float64, 8, 1_048_560), (torch.float32, 512, 1_048_575)],
)
def test_too_many_episodes_for_a_grid_or_for_offsets(dtype: torch.dtype, D: int, most: int) -> None:
    """65,535 blocks of 32 or 16 episodes, or 2^31 - 1 numbers of the 4 x 512 gates."""

    def sizes(B: int) -> plan.Sizes:
        weights = torch.empty(12, D, device="meta"), torch.empty(4 * D, D + 4, device="meta")
        memory = torch.empty(B, 6, 4, dtype=dtype, device="meta")
        return plan.sizes(1, *weights, torch.empty(B, D, device="meta"), memory, D + 4)

    assert most == sizes(most).B
    with pytest.raises(ValueError, match=f"^input: got {most + 1:,} episodes, need at most {most:,} in a call"):
        sizes(most + 1)


def test_too_many_weights_for_offsets() -> None:
    """4 x 23,200 gates of 23,360 numbers, h and the reads, are more than 2^31 weights: 32 bits do not reach all."""
    D, columns = 23_200, 23_360
    weights = torch.empty(12, D, device="meta"), torch.empty(4 * D, columns, device="meta")
    memory = torch.empty(1, 128, 40, device="meta")
    with pytest.raises(
        ValueError, match=r"^hidden_size: got 23,200, a matrix of 2,167,808,000 weights, need fewer than"
    ):
        plan.sizes(1, *weights, torch.empty(1, D, device="meta"), memory, columns)
    assert plan.sizes(1, weights[0][:, :8], torch.empty(32, 168, device="meta"), None, memory, 168).D == 8


def test_kernels_start_early_only_where_a_gpu_has_shown_that_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    for capability in ((8, 0), (9, 0), (10, 0), (12, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, it=capability: it)
        assert not plan.starts_early(gpu)
    monkeypatch.setattr(plan, "EARLY_GPUS", frozenset({(12, 0)}))
    assert plan.starts_early(gpu)
    assert not plan.starts_early(torch.device("cpu"))
