"""Inputs that the compiled operations refuse themselves: a compiled graph calls them without the functional checks."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from mannkern import MANN, NTM, functional
from tests.helpers import CPP

ROOT = Path(__file__).parents[2]


def test_example() -> None:
    """Slot 1 is set to zero, then slots get 1/2 and 1/4 of 4: 1 + 2 = 3 and 0 + 1 = 1."""
    memory, weights, add = torch.tensor([[[1.0], [2]]]), torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[4.0]]])
    assert torch.ops.mannkern.additive_write(memory, weights, add, torch.tensor([1])).tolist() == [[[3], [1]]]


MEMORY, WEIGHTS, ADD = torch.randn(2, 3, 4), torch.rand(2, 1, 3), torch.randn(2, 1, 4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # raised by torch's tracing
@pytest.mark.parametrize("slot", [-1, 3, 2**40])
def test_a_slot_out_of_range_is_never_written(slot: int) -> None:
    reset = torch.tensor([0, slot])
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS, ADD, reset)
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        torch.ops.mannkern.additive_write_backward(MEMORY, WEIGHTS, ADD, reset)
    compiled = torch.compile(functional.additive_write, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        compiled(MEMORY, WEIGHTS, ADD, reset, backend="cpp")


def test_other_shapes_and_dtypes_are_never_read() -> None:
    with pytest.raises(RuntimeError, match="write_weights: got float64, need float32"):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS.double(), ADD, None)
    with pytest.raises(RuntimeError, match=re.escape("write_weights: got shape [2, 1, 2], need [2, 1, 3]")):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS[..., :2], ADD, None)
    with pytest.raises(RuntimeError, match="only B may be 0"):
        torch.ops.mannkern.additive_write(MEMORY[:, :0], WEIGHTS[..., :0], ADD, None)
    with pytest.raises(RuntimeError, match="n: got 4, need 1 to 3"):
        torch.ops.mannkern.least_used_mask(MEMORY[..., 0], 4)


ROW, SHIFT, ONE = torch.rand(2, 1, 3), torch.rand(2, 1, 3), torch.ones(2, 1)


def test_the_ntm_refuses_an_even_number_of_shifts_and_other_shapes() -> None:
    ops = torch.ops.mannkern
    with pytest.raises(RuntimeError, match="with S odd"):
        ops.shift_sharpen(ROW, SHIFT[..., :2], ONE)
    with pytest.raises(RuntimeError, match="with S odd"):
        ops.ntm_address(MEMORY, ROW, ADD, ONE, ONE, SHIFT[..., :2], ONE)
    with pytest.raises(RuntimeError, match="shift: got float64, need float32"):
        ops.shift_sharpen(ROW, SHIFT.double(), ONE)
    with pytest.raises(RuntimeError, match="only B may be 0"):
        ops.shift_sharpen(ROW[..., :0], SHIFT, ONE)
    with pytest.raises(RuntimeError, match=re.escape("weights: got shape [2, 1, 3], need [2, 2, 3]")):
        ops.ntm_write(MEMORY, ROW, ADD.repeat(1, 2, 1), ADD.repeat(1, 2, 1))


@pytest.mark.parametrize("isa", [isa for _, isa in CPP], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("module", "N", "W", "heads"),
    [(NTM, 4, 512, 64), (NTM, 1, 1, 120), (NTM, 3, 80, 24), (MANN, 4, 512, 64), (MANN, 1, 1, 120), (MANN, 3, 80, 24)],
)
def test_many_heads_and_few_slots(
    module: type[MANN | NTM], N: int, W: int, heads: int, dtype: torch.dtype, isa: str
) -> None:
    """A kernel whose scratch memory is too small raises; these were the largest that a step needs of it."""
    options = {"num_read_heads": 1, "num_write_heads": heads} if module is NTM else {"num_reads": heads}
    torch.manual_seed(0)  # with one seed in eight rounding decides which of two slots is used less
    model = module(3, 4, memory_slots=N, memory_width=W, dtype=dtype, **options)
    inputs = torch.randn(2, 1, 3, dtype=dtype)
    results = []
    for backend in ("cpp", "reference"):
        model.backend = backend
        output, state = model(inputs)
        weights = torch.autograd.grad(output.square().sum() + state.memory.sum(), list(model.parameters()))
        results.append([output, state.memory, *weights])
    scale = 1e-3 if dtype == torch.float32 else 1e-9
    for got, expected in zip(*results, strict=True):
        assert (got - expected).norm() <= scale * expected.norm() + 1e-6 * scale


def test_every_name_that_python_calls_is_exported_on_windows() -> None:
    """``setup.py`` lists them for a linker that exports nothing else."""
    setup = (ROOT / "setup.py").read_text()
    (exported,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(setup).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXPORTS"
    )
    called = set(re.findall(r"_handle\.(mannkern_\w+)", (ROOT / "mannkern" / "backends" / "native.py").read_text()))
    assert set(exported) == called


TEAM = """
#include <cstdio>
#include <new>
#include "cpu/team.h"

using namespace mannkern;
using namespace std::chrono_literals;

std::atomic<bool> helped{false};

// The leader's first part throws while the helper is in another, which then reads what `run` was given.
__attribute__((noinline)) void lead(Team& team) {
  const int64_t forty_two[8] = {42, 42, 42, 42, 42, 42, 42, 42};
  team.run(8, [&](int64_t begin, int64_t) {
    if (begin == 0) {
      while (!helped) std::this_thread::yield();
      throw std::bad_alloc();
    }
    helped = true;
    std::this_thread::sleep_for(100ms);
    std::printf("%d ", int(forty_two[begin]));
  });
}
__attribute__((noinline)) void overwrite() {
  volatile int64_t stack[400];
  for (int i = 0; i < 400; ++i) stack[i] = 7;
}
int main() {
  Team team(2);
  std::thread helper([&] { team.help(); });
  bool threw = false;
  try {
    lead(team);
  } catch (const std::bad_alloc&) {
    threw = true;
  }
  overwrite();
  team.end();
  helper.join();
  std::puts(threw ? "thrown" : "lost");
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_team_whose_leader_throws_waits_for_its_helpers(tmp_path: Path) -> None:
    (tmp_path / "team.cpp").write_text(TEAM)
    include = ["-I", str(ROOT / "csrc"), "-include", "chrono", "-pthread", "-std=c++17", "-O1"]
    subprocess.run(["g++", *include, str(tmp_path / "team.cpp"), "-o", str(tmp_path / "team")], check=True)
    done = subprocess.run([str(tmp_path / "team")], check=True, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == {"42", "thrown"}
