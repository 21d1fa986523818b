"""The kernels as machine code: compiled ahead of time for GPUs that are not here."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import static

ROOT = Path(static.__file__).parents[1]
RECORDED: dict[str, Any] = json.loads(static.RESULTS.read_text())["triton"]["kernels"]
VERSION: str = json.loads(static.RESULTS.read_text())["triton"]["version"]
CUDA: dict[str, Any] = json.loads(static.RESULTS.read_text())["nvcc"]["kernels"]


def test_complaints_by_hand() -> None:
    """A kernel that spills 8 bytes and takes a third more registers than recorded, in 4 warps of 32 lanes."""
    recorded = {"k": {"sm_90": {"warps": 4, "shared": 0, "registers": 30, "spills": 0, "stack": 0}}}
    found = {"k": {"sm_90": {"warps": 4, "shared": 0, "registers": 40, "spills": 8, "stack": 0}}}
    assert static.complaints(recorded, recorded) == []
    assert static.complaints(found, recorded) == [
        "k, sm_90: 8 bytes of spills",
        "k, sm_90: registers 40, recorded 30",
        "k, sm_90: spills 8, recorded 0",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", static.COMPILERS)
def test_every_kernel_compiles_without_spills(compiler: str) -> None:
    """In a process of its own, where Triton's interpreter is off."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "bench/static.py", "--compilers", compiler]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    if "nvcc is not found" in done.stdout:
        pytest.skip("nvcc is not found: the CUDA kernels are not compiled")
    for line in done.stdout.splitlines():
        if "not compared" in line:  # nothing spills, but another compiler takes other registers
            pytest.skip(line)


def compiler(version: str, figures: dict[str, Any], *sources: str) -> static.Compiler:
    """A stand-in for a compiler, which finds these figures."""
    return static.Compiler(lambda: version, lambda targets: figures, sources)


def test_another_compiler_is_not_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With another Triton more registers are no complaint, but spills are."""
    figures = copy.deepcopy(RECORDED)
    figures["step_forward: standard"]["sm_90"] |= {"registers": 250}
    for version, spills, complaints in (("3.8.0", 0, 0), ("3.8.0", 8, 1), (VERSION, 0, 1)):
        figures["step_forward: standard"]["sm_90"]["spills"] = spills
        monkeypatch.setitem(static.COMPILERS, "triton", compiler(version, figures))
        assert len(static.check("triton", list(static.TARGETS), accept=False)) == complaints
        said = f"recorded with triton {VERSION}, this is {version}: not compared"
        assert (said in capsys.readouterr().out) == (version != VERSION)


def test_only_what_changed_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a source or the compiler's version has changed; what must not be is a complaint even where nothing has."""
    monkeypatch.setattr(static, "RESULTS", tmp_path / "static.json")
    monkeypatch.setattr(static, "ROOT", tmp_path)
    (tmp_path / "kernel.py").write_text("one")
    good, bad = copy.deepcopy(RECORDED), copy.deepcopy(RECORDED)
    bad["step_forward: standard"]["sm_90"]["spills"] = 8

    def complaints(version: str, figures: dict[str, Any], accept: bool = False) -> tuple[int, bool]:
        """How many there are, and whether the figures came from the file."""
        monkeypatch.setitem(static.COMPILERS, "triton", compiler(version, figures, "*.py"))
        found = len(static.check("triton", list(static.TARGETS), accept))
        return found, "nothing is compiled again" in capsys.readouterr().out

    assert complaints("1", good, accept=True) == (0, False)
    assert complaints("1", bad) == (0, True)
    assert complaints("2", bad) == (1, False)
    (tmp_path / "kernel.py").write_text("two")
    assert complaints("1", bad) == (2, False)  # a spill, and one more than recorded
    assert complaints("1", bad, accept=True) == (1, False)
    assert complaints("1", good) == (1, True)


def test_every_kernel_and_target_is_recorded() -> None:
    names = {name.split(":")[0] for name in RECORDED}
    assert names == {
        "step_forward", "step_backward", "step_finish", "step_mean", "scan_forward", "scan_backward",
        "write_forward", "write_backward", "usage_forward", "mark_least_used", "select_least_used",
        "lstm_forward", "lstm_backward", "layer_forward", "layer_backward", "interface_forward", "output_backward",
        "mann_step", "mann_recompute", "mann_step_backward",
    }  # fmt: skip
    assert all(by_target.keys() == static.TARGETS.keys() for by_target in RECORDED.values())
    rows, writes = ("shift_sharpen", "ntm_address"), ("ntm_write",)
    names = {f"{name}{part}" for name in (*rows, *writes) for part in ("", "_backward")}
    steps = {"lrua_step", "lrua_step_backward", "lrua_scan", "lrua_scan_backward"}
    episodes = {"ntm_step", "ntm_step_backward", "ntm_recompute"}
    persistent = {"mann_persistent", "mann_persistent_backward"}
    assert {name.split(":")[0] for name in CUDA} == names | steps | episodes | persistent
    numbers = 2 * (4 * len(rows) + 2 * len(writes)), len(steps) * 4 * 2  # types; a warp's rows and a block's, passes
    # the steps' and scans': heads; the paper's size and any; the episode's
    assert len(CUDA) == sum(numbers) + 2 * (2 * 2 + 1) + len(persistent)
    for name, by_target in CUDA.items():
        targets = {"sm_90", "sm_100"} if name.startswith("mann_persistent") else set(static.CUDA_TARGETS)
        assert set(by_target) == targets


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("spills", 8, "8 bytes of spills"),
        ("stack", 16, "16 bytes of stack"),
        ("asymmetric", 2, "2 sums over lanes that give lanes unequal bits"),
        ("unrounded", 3, "3 products and sums that the assembler may fuse"),
        ("registers", 4000, "registers a program, of 65536 there are"),
        ("shared", 70000, "bytes of shared memory, of 65536"),
    ],
)
def test_what_must_not_be(figure: str, value: int, said: str) -> None:
    figures = copy.deepcopy(RECORDED)
    figures["step_forward: standard"]["sm_90"][figure] = value
    found = static.complaints(figures, figures)
    assert len(found) == 1
    assert found[0].startswith("step_forward: standard, sm_90")
    assert said in found[0]


def test_a_regression_is_told() -> None:
    figures = copy.deepcopy(RECORDED)
    figures["step_forward: standard"]["gfx942"]["registers"] += 40
    assert static.complaints(RECORDED, figures) == []  # better than recorded
    (said,) = static.complaints(figures, RECORDED)
    before = RECORDED["step_forward: standard"]["gfx942"]["registers"]
    assert said == f"step_forward: standard, gfx942: registers {before + 40}, recorded {before}"


def test_what_is_new_or_gone_is_told() -> None:
    few = {name: x for name, x in RECORDED.items() if name != "step_forward: standard"}
    assert static.complaints(few, RECORDED) == ["step_forward: standard: recorded, but no longer compiled"]
    assert static.complaints(RECORDED, few) == [f"step_forward: standard, {t}: not recorded" for t in static.TARGETS]
