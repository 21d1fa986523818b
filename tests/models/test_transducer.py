"""The transducer: shapes, the paper's sizes, what a trace shows, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mannkern import NTM
from mannkern.models import Transducer
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.copying import Copy

SMALL: dict[str, Any] = {"hidden_size": 16, "memory_slots": 12, "memory_width": 6, "lstm_size": 8}


def build(memory: str = "ntm", **options: Any) -> Transducer:
    torch.manual_seed(0)
    return Transducer(5, 4, memory=memory, **SMALL | options)


@pytest.mark.parametrize("memory", ["ntm", "lstm"])
@pytest.mark.parametrize(("T", "B"), [(5, 4), (1, 1), (5, 0)])
def test_shapes(memory: str, T: int, B: int) -> None:
    model = build(memory)
    logits = model(torch.randn(T, B, 5))
    assert logits.shape == (T, B, 4)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (model.head.bias == 0).all()


def test_the_papers_sizes_for_copy() -> None:
    ntm, lstm = Transducer(9, 8), Transducer(9, 8, memory="lstm")
    assert isinstance(ntm.recurrent, NTM)
    cell = ntm.recurrent.cell
    assert (cell.hidden_size, cell.memory_slots, cell.memory_width) == (100, 128, 20)
    assert ntm.head.in_features == 120
    assert isinstance(lstm.recurrent, torch.nn.LSTM)
    assert (lstm.recurrent.hidden_size, lstm.recurrent.num_layers) == (256, 3)
    assert lstm.head.in_features == 256


@pytest.mark.parametrize(
    "options", [{}, {"read_heads": 3, "write_heads": 2, "shift_range": 2, "memory_init": "learned"}]
)
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_trace_is_forward(controller: str, options: dict[str, Any]) -> None:
    model = build(controller=controller, **options).double()
    inputs = torch.randn(9, 4, 5, dtype=torch.float64)
    trace = model.trace(inputs)
    torch.testing.assert_close(trace.logits, model(inputs).detach(), rtol=1e-10, atol=1e-12)
    assert not trace.logits.requires_grad
    heads = options.get("read_heads", 1), options.get("write_heads", 1)
    for weights, count in zip((trace.read_weights, trace.write_weights), heads, strict=True):
        assert weights.shape == (9, 4, count, 12)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(9, 4, count, dtype=torch.float64))


def test_an_lstm_has_no_trace() -> None:
    with pytest.raises(TypeError, match=r"^trace: needs memory='ntm'"):
        build("lstm").trace(torch.zeros(2, 1, 5))


def test_unknown_memory() -> None:
    with pytest.raises(ValueError, match=r"^memory: got 'mann', need 'ntm' or 'lstm'"):
        build("mann")


@pytest.mark.parametrize("memory", ["ntm", "lstm"])
def test_training_lowers_the_loss(memory: str) -> None:
    """Copying one vector: a few dozen steps are enough."""
    model, task = build(memory), Copy(bits=4, max_length=1)
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
