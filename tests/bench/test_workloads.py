"""Problems: what a run returns, in float32 and float64, forward alone and with gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as nnf

from mannkern.benchmark import contestants, workloads
from mannkern.benchmark.problems import Problem, Training
from tests.bench.helpers import doubling

SMALL: dict[str, Problem] = {
    "lrua_step": workloads.lrua_step(2),
    "lrua_scan": workloads.lrua_scan(3, 2),
    "ntm_step": workloads.ntm_step(2),
    "mann": workloads.mann(2, T=3),
    "mann_cell": workloads.mann_cell(2, T=3),
    "ntm_cell": workloads.ntm_cell(2, T=3),
    "copy": workloads.copy_task(2),
    "ntm": workloads.episode("ntm", 2, workloads.STANDARD._replace(T=3)),
    **{name: workloads.model(name, 2, T=3) for name in workloads.MODELS},
}


def test_run_by_hand() -> None:
    """x = 1, 2, 3; y = 2 x; a loss that sums y has gradient 2 for each."""
    y, gradient = doubling(3).run(lambda x: 2 * x)()
    assert y.tolist() == [2.0, 4.0, 6.0]
    assert gradient.tolist() == [2.0, 2.0, 2.0]
    assert doubling(3).names == ["y", "grad x"]


def test_training_step_by_hand() -> None:
    """One weight w = 3 on x = 2, loss w x: output 6, gradient 2."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 3.0)
    x = torch.tensor([[2.0]])
    step = Training("line", {"B": 1}, network, (x,), lambda output, target: output.sum(), x)
    assert [found.item() for found in step.run(network)()] == [6.0, 2.0]
    assert step.names == ["outputs", "grad weight"]


@pytest.mark.parametrize("name", SMALL)
def test_what_a_run_returns(name: str) -> None:
    problem = SMALL[name]
    for wanted, dtype in ((problem, torch.float32), (problem.double(), torch.float64)):
        found = contestants.reference(name).build(wanted)()
        assert len(found) == len(wanted.names)
        assert {x.dtype for x in found} == {dtype}
        assert problem.B == 2
    assert problem.dtype == torch.float32  # double() left it as it was


def test_forward_alone_has_no_gradient() -> None:
    for workload, problem in (
        ("lrua_step", workloads.lrua_step(2, gradient=False)),
        ("ntm_step", workloads.ntm_step(2, gradient=False)),
        ("mann", workloads.mann(2, T=3, gradient=False)),
    ):
        found = contestants.reference(workload).build(problem)()
        assert len(found) == len(problem.names)
        assert not any(x.requires_grad for x in found)


def test_a_large_batch_repeats_what_was_drawn() -> None:
    usage = workloads.lrua_step(workloads.DRAWN + 3, N=4, W=2, R=1).inputs["usage"]
    assert usage.shape == (workloads.DRAWN + 3, 4)
    assert torch.equal(usage[workloads.DRAWN :], usage[:3])
    keys = workloads.operation("scan", workloads.Shape(workloads.DRAWN + 3, 4, 2, 1, 1, T=2)).inputs["keys"]
    assert torch.equal(keys[:, workloads.DRAWN :], keys[:, :3])


def test_the_copy_task_shows_bits_then_asks_for_them() -> None:
    step = workloads.copy_task(2)
    (inputs,), bits = step.inputs, step.targets
    L = workloads.LENGTH
    assert torch.equal(inputs[:L, :, :-1], bits)
    assert inputs[L, :, -1].tolist() == [1.0, 1.0]
    assert not inputs[L + 1 :].any()
    logits = torch.randn(2 * L + 1, 2, workloads.BITS)
    assert step.loss(logits, bits) == nnf.binary_cross_entropy_with_logits(logits[L + 1 :], bits)
