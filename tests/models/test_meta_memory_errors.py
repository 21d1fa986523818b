"""What the meta-memory network refuses, and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from tests.models.meta_memory import build, task


def test_example() -> None:
    """Three classes with two shots are six examples, so that four labels of each task are refused."""
    support, labels, queries = task(shots=2)
    with pytest.raises(ValueError, match=r"^labels: got shape \(3, 4\), need \(3, 6\)"):
        build()(support, labels[:, :4], queries)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s, y, q: (s[0], y, q), ValueError, r"^support: got shape \(6, 5\), need \(B, K, \.\.\.\)"),
        (lambda s, y, q: (s[:, :0], y[:, :0], q), ValueError, r"^support: .* with K at least 1"),
        (lambda s, y, q: (s, y.float(), q), TypeError, r"^labels: got torch.float32, need torch.int64"),
        (lambda s, y, q: (s, y + 1, q), ValueError, r"^labels: got 1 to 3, need 0 to 2"),
        (lambda s, y, q: (s, y - 1, q), ValueError, r"^labels: got -1 to 1, need 0 to 2"),
        (
            lambda s, y, q: (s, y, q[:2]),
            ValueError,
            r"^queries: got shape \(2, 4, 5\), need \(B, Q, \.\.\.\) with B = 3",
        ),
    ],
)
def test_wrong_tasks(change: Callable[..., tuple[Tensor, ...]], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()(*change(*task()))


def test_wrong_targets_and_queries() -> None:
    model = build("mean_squared_error")
    support, targets, queries = task("mean_squared_error")
    with pytest.raises(ValueError, match=r"^labels: got shape \(3, 6, 2\), need \(3, 6, 3\)"):
        model(support, targets[..., :2], queries)
    with pytest.raises(TypeError, match=r"^labels: got torch.int64, need the targets, floating point"):
        model(support, targets.long(), queries)
    adapted = model.adapt(support, targets)
    with pytest.raises(ValueError, match=r"^queries: got shape \(1, 4, 5\), need \(B, Q, \.\.\.\) with B = 3"):
        adapted(queries[:1])
    with pytest.raises(ValueError, match=r"^steps: got -1, need at least 0"):
        model.adapt(support, targets, steps=-1)


def test_an_embedding_of_another_size() -> None:
    model = build()
    model.embedding = nn.Linear(5, 3).double()
    for call in (model, lambda support, labels, queries: model.adapt(support, labels, steps=0)):
        with pytest.raises(
            ValueError, match=r"^embedding: got \(3,\) for an input, need \(embedding_size,\) = \(\d+,\)"
        ):
            call(*task())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, r"^loss: got 'hinge', need 'cross_entropy' or 'mean_squared_error'"),
        ({"outputs": 0}, r"^outputs: got 0, need at least 1"),
        ({"layers": 0}, r"^layers: got 0, need at least 1"),
        ({"steps": -1}, r"^steps: got -1, need at least 0"),
        ({"step_size": 0.0}, r"^step_size: got 0.0, need a number above 0"),
        ({"max_norm": -1.0}, r"^max_norm: got -1.0, need a number above 0"),
        ({"strength": -1.0}, r"^strength: got -1.0, need a number above 0"),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
