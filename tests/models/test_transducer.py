"""The transducer: shapes, the paper's sizes, what a trace shows, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mannkern import NTM
from mannkern.experiments.algorithmic.config import CopyConfig
from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment
from mannkern.models import CoreSettings, Transducer, build_core
from mannkern.tasks import Copy, seeds

SMALL: dict[str, Any] = {"hidden_size": 16, "memory_slots": 12, "memory_width": 6, "num_reads": 1, "lstm_layers": 3}


def build(name: str = "ntm", **options: Any) -> Transducer:
    torch.manual_seed(0)
    return Transducer(build_core(name, CoreSettings(5, **SMALL | options)), 4)


def test_one_step_by_hand() -> None:
    """An LSTM of one unit with zero weights has h = 0, whatever comes; what is left is the bias of the head."""
    model = Transducer(build_core("lstm", CoreSettings(2, hidden_size=1)), 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.head.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    expected = torch.tensor([1.0, 2.0, 3.0]).expand(4, 5, 3)
    torch.testing.assert_close(model(torch.randn(4, 5, 2)), expected)


@pytest.mark.parametrize("name", ["ntm", "lstm"])
@pytest.mark.parametrize(("T", "B"), [(5, 4), (1, 1), (5, 0)])
def test_shapes(name: str, T: int, B: int) -> None:
    model = build(name)
    logits = model(torch.randn(T, B, 5))
    assert logits.shape == (T, B, 4)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (model.head.bias == 0).all()


def test_the_papers_sizes_for_copy() -> None:
    ntm, lstm = (AlgorithmicExperiment(CopyConfig(model=name)).make_model() for name in ("ntm", "lstm"))
    assert isinstance(ntm.recurrent, NTM)
    cell = ntm.recurrent.cell
    assert (cell.hidden_size, cell.memory_slots, cell.memory_width) == (100, 128, 20)
    assert ntm.head.in_features == 120
    assert isinstance(lstm.recurrent, torch.nn.LSTM)
    assert (lstm.recurrent.hidden_size, lstm.recurrent.num_layers) == (256, 3)
    assert lstm.head.in_features == 256


@pytest.mark.parametrize("options", [{}, {"num_reads": 3, "num_writes": 2, "shift_range": 2, "memory_init": "learned"}])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_trace_is_forward(controller: str, options: dict[str, Any]) -> None:
    model = build(controller=controller, **options).double()
    inputs = torch.randn(9, 4, 5, dtype=torch.float64)
    trace = model.trace(inputs)
    torch.testing.assert_close(trace.logits, model(inputs).detach(), rtol=1e-10, atol=1e-12)
    assert not trace.logits.requires_grad
    heads = options.get("num_reads", 1), options.get("num_writes", 1)
    for weights, count in zip((trace.read_weights, trace.write_weights), heads, strict=True):
        assert weights.shape == (9, 4, count, 12)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(9, 4, count, dtype=torch.float64))


def test_an_lstm_has_no_trace() -> None:
    with pytest.raises(TypeError, match=r"^trace: got LSTM, need a core with a memory"):
        build("lstm").trace(torch.zeros(2, 1, 5))


@pytest.mark.parametrize("name", ["ntm", "lstm"])
def test_training_lowers_the_loss(name: str) -> None:
    """Copying one vector: a few dozen steps are enough."""
    model, task = build(name), Copy(bits=4, max_length=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for step in range(60):
        sequences = task.sample(16, seeds.generator(0, step))
        loss = F.binary_cross_entropy_with_logits(model(sequences.inputs)[-1:], sequences.targets[-1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]
