"""The registry: every workload has a reference, and every contestant of the CPU agrees with it."""

from __future__ import annotations

import pytest
import torch

from bench.test_operations import CASES, problem
from mannkern.benchmark import contestants, harness
from mannkern.benchmark.contestants import CONTESTANTS
from tests.bench.test_workloads import SMALL
from tests.helpers import operations

OPERATIONS = set(operations())
SLOW_TO_COMPILE = "compiled"  # torch.compile: the benchmarks themselves check it


def test_registry_by_hand() -> None:
    """The memory step has four contestants on a CPU, and two of them by name."""
    names = [x.name for x in contestants.of("lrua_step")]
    assert names == ["cpp", "reference", "compiled", "matmul"]
    assert [x.name for x in contestants.of("lrua_step", "cuda")] == ["triton", "cuda", *names[1:]]
    assert [x.name for x in contestants.of("mann", names=["lstm", "cpp"])] == ["cpp", "lstm"]


def test_every_public_operation_is_a_workload_and_a_benchmark() -> None:
    assert CONTESTANTS.keys() >= OPERATIONS
    assert CASES.keys() == OPERATIONS


@pytest.mark.parametrize("workload", CONTESTANTS)
def test_names_are_told_apart(workload: str) -> None:
    for device in ("cpu", "cuda"):
        found = contestants.of(workload, device)
        names = [x.name for x in [*found, *contestants.graphs(found)]]
        assert len(set(names)) == len(names)
        assert "reference" in names
        assert found[0].name != "reference"  # the first is mannkern's


@pytest.mark.slow
@pytest.mark.parametrize("workload", CONTESTANTS)
def test_everybody_agrees_with_the_reference(workload: str) -> None:
    small = SMALL[workload] if workload in SMALL else problem(workload, 2)
    accuracy = harness.Accuracy(small)
    for entrant in contestants.of(workload):
        if entrant.checked and entrant.name != SLOW_TO_COMPILE and not contestants.missing(entrant, "cpu"):
            accuracy.check(entrant.build(small))


def test_an_lstm_is_as_wide_as_what_the_controller_sees() -> None:
    (lstm,) = contestants.of("mann", names=["lstm"])
    assert not lstm.checked
    logits, weight, *_ = lstm.build(SMALL["mann"])()
    assert logits.shape == (3, 2, 5)
    assert weight.shape == (4 * 200, 405 + 4 * 40)


def test_who_is_missing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants.shutil, "which", lambda name: None)
    (compiled,) = contestants.of("lrua_step", names=["compiled"])
    assert contestants.missing(compiled, "cpu") == "torch.compile needs a C++ compiler"
    (reference,) = contestants.of("lrua_step", names=["reference"])
    assert contestants.missing(reference, "cpu") == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton runs here")
def test_a_backend_that_is_not_there_says_why() -> None:
    (cuda,) = contestants.of("ntm_write", "cuda", names=["cuda"])
    assert contestants.missing(cuda, "cuda")
