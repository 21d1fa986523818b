"""Matching Networks: the paper's equations by hand, what the order of the support set changes, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.backends import native
from mannkern.models import MatchingNetwork
from mannkern.models.matching import QueryContext, SupportContext
from tests.helpers import MISSING


class Given(nn.Module):
    """Embeds a drawing of 1 x W pixels as those pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(-2)


def matcher(num_classes: int, width: int, **options: Any) -> MatchingNetwork:
    """A double-precision network that takes embeddings."""
    torch.manual_seed(0)
    model = MatchingNetwork(num_classes, width=width, **options).double()
    model.embedding = Given()  # type: ignore[assignment]
    return model


def episode(B: int = 3, C: int = 4, K: int = 2, Q: int = 5, W: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of an episode as drawings of 1 x W pixels, labels in shuffled order."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.rand(B, C * K, generator=generator).argsort(1) // K
    support, queries = (torch.randn(B, n, 1, W, generator=generator, dtype=torch.float64) for n in (C * K, Q))
    return support, labels, queries


def test_probabilities_by_hand() -> None:
    """Cosines of the query (2, 0) with the support set: 1, 0, -1, 0.6; labels 0, 1, 1, 0."""
    support = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [3.0, 4.0]], dtype=torch.float64).view(1, 4, 1, 2)
    labels = torch.tensor([[0, 1, 1, 0]])
    logits = matcher(3, 2)(support, labels, torch.tensor([2.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2))
    e = [math.exp(cosine) for cosine in (1, 0, -1, 0.6)]
    expected = [(e[0] + e[3]) / sum(e), (e[1] + e[2]) / sum(e)]
    assert logits.exp()[0, 0, :2].tolist() == pytest.approx(expected, rel=1e-12)
    assert logits[0, 0, 2] == math.log(torch.finfo(torch.float64).tiny), "class 2 is not shown"


@pytest.mark.parametrize("K", [1, 5])
@pytest.mark.parametrize("full_context", [False, True])
def test_probabilities_sum_to_one(K: int, full_context: bool) -> None:
    support, labels, queries = episode(K=K)
    logits = matcher(4, 6, full_context=full_context)(support, labels, queries)
    assert logits.shape == (3, 5, 4)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(3, 5, dtype=torch.float64))


def test_the_support_context_by_hand() -> None:
    """Forward and backward states of two LSTM cells with the same weights, plus the input (appendix A.2)."""
    torch.manual_seed(0)
    context = SupportContext(3).double()
    support = torch.randn(2, 4, 3, dtype=torch.float64)
    states = torch.zeros(2, 4, 3, dtype=torch.float64)
    for suffix, order in (("", range(4)), ("_reverse", reversed(range(4)))):
        cell = nn.LSTMCell(3, 3).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cell, name, getattr(context.lstm, f"{name}_l0{suffix}"))
        h, c = (torch.zeros(2, 3, dtype=torch.float64) for _ in range(2))
        for i in order:
            h, c = cell(support[:, i], (h, c))
            states[:, i] += h.detach()
    torch.testing.assert_close(context(support), states + support)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_query_context_by_hand(steps: int) -> None:
    """Equations 3 to 6 (appendix A.1) for one query at a time, the gates written out."""
    torch.manual_seed(0)
    W = 3
    context = QueryContext(W, steps).double().requires_grad_(False)
    queries, support = torch.randn(2, 4, W, dtype=torch.float64), torch.randn(2, 5, W, dtype=torch.float64)
    cell = context.cell
    of_input, of_read = cell.weight_ih[:, :W], cell.weight_ih[:, W:]
    found = context(queries, support)
    for b in range(2):
        for q in range(4):
            h, c = torch.zeros(W, dtype=torch.float64), torch.zeros(W, dtype=torch.float64)
            for _ in range(steps):
                scores = [math.exp(float(h @ g)) for g in support[b]]
                read = sum(score / sum(scores) * g for score, g in zip(scores, support[b], strict=True))
                state = torch.cat([h, read])  # [h, r] is what the LSTM has as its state
                gates = of_input @ queries[b, q] + torch.cat([cell.weight_hh, of_read], 1) @ state
                i, f, new, o = (gates + cell.bias_ih + cell.bias_hh).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * new.tanh()
                h = o.sigmoid() * c.tanh() + queries[b, q]
            torch.testing.assert_close(found[b, q], h)


def test_full_context_is_the_two_contexts_under_the_same_attention() -> None:
    model = matcher(4, 6, full_context=True, steps=2)
    support, labels, queries = episode()
    assert model.support_context is not None
    assert model.query_context is not None
    memory = model.support_context(support.flatten(2))
    key = model.query_context(queries.flatten(2), memory)
    plain = matcher(4, 6)
    expected = plain(memory.unsqueeze(2), labels, key.unsqueeze(2))
    torch.testing.assert_close(model(support, labels, queries), expected)
    assert not torch.allclose(expected, plain(support, labels, queries))


def test_the_order_of_the_support_set() -> None:
    support, labels, queries = episode()
    order = torch.tensor([3, 1, 7, 0, 2, 6, 4, 5])
    plain, full = matcher(4, 6), matcher(4, 6, full_context=True)
    turned = plain(support[:, order], labels[:, order], queries)
    torch.testing.assert_close(turned, plain(support, labels, queries), rtol=1e-12, atol=1e-12)
    before = full(support, labels, queries)
    assert not torch.allclose(full(support[:, order], labels[:, order], queries), before)
    full.support_context = nn.Identity()  # type: ignore[assignment]
    without = full(support, labels, queries)
    torch.testing.assert_close(full(support[:, order], labels[:, order], queries), without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("full_context", [False, True])
def test_queries_do_not_see_each_other(full_context: bool) -> None:
    """Nor do episodes, once batch norm does not learn from them."""
    torch.manual_seed(0)
    model = MatchingNetwork(3, width=8, full_context=full_context).double().eval()
    support, queries = torch.rand(2, 3, 20, 20, dtype=torch.float64), torch.rand(2, 4, 20, 20, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2], [2, 0, 1]])
    together = model(support, labels, queries)
    torch.testing.assert_close(model(support[1:], labels[1:], queries[1:, 2:3]), together[1:, 2:3])


@pytest.mark.parametrize("full_context", [False, True])
def test_every_parameter_learns(full_context: bool) -> None:
    torch.manual_seed(0)
    model = MatchingNetwork(3, width=8, full_context=full_context, steps=2)
    labels = torch.tensor([[0, 1, 2], [2, 0, 1]])
    logits = model(torch.rand(2, 3, 20, 20), labels, torch.rand(2, 4, 20, 20))
    nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([0, 1, 2, 0] * 2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients() -> None:
    for full_context in (False, True):
        model = matcher(2, 3, full_context=full_context, steps=2)
        support, labels, queries = episode(B=2, C=2, K=2, Q=3, W=3)
        inputs = (support.requires_grad_(), queries.requires_grad_())
        assert torch.autograd.gradcheck(lambda s, q, m=model, y=labels: m(s, y, q), inputs)


@pytest.mark.skipif(bool(native.reason), reason=MISSING)
@pytest.mark.parametrize("full_context", [False, True])
@pytest.mark.parametrize("K", [1, 5])
def test_backends_agree(full_context: bool, K: int) -> None:
    support, labels, queries = episode(K=K)
    gradients = []
    for backend in ("reference", "cpp"):
        model = matcher(4, 6, full_context=full_context, backend=backend)
        support, queries = support.detach().requires_grad_(), queries.detach().requires_grad_()
        logits = model(support, labels, queries)
        logits.square().sum().backward()
        gradients.append((logits.detach(), support.grad, queries.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "wrong", "error", "message"),
    [
        ("support", torch.zeros(3, 8, 6), ValueError, r"support: got shape \(3, 8, 6\), need \(B, N, P, P\)"),
        ("support", torch.zeros(3, 0, 1, 6), ValueError, "support: got no drawings"),
        ("support", torch.zeros(3, 8, 1, 6).byte(), TypeError, "support: got torch.uint8"),
        ("support", [[0.0]], TypeError, "support: got list, need a tensor"),
        ("labels", [0], TypeError, "labels: got list, need a tensor"),
        ("queries", torch.zeros(3, 5, 1, 6), TypeError, "queries: got torch.float32, need torch.float64"),
        ("queries", torch.zeros(2, 5, 1, 6), ValueError, r"queries: got shape .*, need \(3, Q, 1, 6\)"),
        ("queries", torch.zeros(3, 5, 2, 6), ValueError, r"queries: got shape .*, need \(3, Q, 1, 6\)"),
        ("labels", torch.zeros(3, 7).long(), ValueError, r"labels: got shape \(3, 7\), need \(3, 8\)"),
        ("labels", torch.zeros(3, 8), TypeError, "labels: got torch.float32, need torch.int64"),
    ],
)
def test_an_episode_that_is_none(name: str, wrong: Any, error: type[Exception], message: str) -> None:
    arguments = dict(zip(("support", "labels", "queries"), episode(), strict=True))
    with pytest.raises(error, match=f"^{message}"):
        matcher(4, 6)(**arguments | {name: wrong})


def test_a_strength_that_cannot_be() -> None:
    for strength in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^strength: got"):
            MatchingNetwork(3, strength=strength)


def test_the_strength_sharpens_the_attention() -> None:
    support = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64).view(1, 2, 1, 2)
    logits = matcher(2, 2, strength=7.0)(support, torch.tensor([[0, 1]]), 2 * support[:, :1])
    torch.testing.assert_close(logits[0, 0].exp(), torch.tensor([7.0, 0.0], dtype=torch.float64).softmax(0))


@pytest.mark.parametrize("name", ["num_classes", "width", "steps"])
def test_numbers_under_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got 0, need at least 1"):
        MatchingNetwork(**{"num_classes": 3, name: 0})


def test_a_backend_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"^backend: got 'nonsense', need 'auto' or one of 'reference', "):
        matcher(4, 6, backend="nonsense")


@pytest.mark.parametrize("full_context", [False, True])
def test_training_lowers_the_loss(full_context: bool) -> None:
    """Classes are spots of light, their drawings noisy."""
    torch.manual_seed(0)
    model = MatchingNetwork(4, width=8, full_context=full_context, steps=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    spots = torch.zeros(9, 16, 16)
    for number, spot in enumerate(spots):
        spot[1 + number // 3 * 5 : 5 + number // 3 * 5, 1 + number % 3 * 5 : 5 + number % 3 * 5] = 1
    losses = []
    for _ in range(30):
        classes = torch.rand(8, 9).argsort(1)[:, :4]
        support, queries = (spots[classes] + 0.3 * torch.rand(8, 4, 16, 16) for _ in range(2))
        labels = torch.arange(4).expand(8, 4)
        loss = nn.functional.cross_entropy(model(support, labels, queries).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]


def test_autocast_in_float16_keeps_small_probabilities() -> None:
    """Where the right class has a probability of 1e-9, its logarithm and gradient are there all the same."""
    model = MatchingNetwork(2, strength=20.0)
    model.embedding = nn.Flatten(2)  # type: ignore[assignment]
    support, labels = torch.eye(2).view(1, 2, 1, 2), torch.tensor([[0, 1]])
    queries = torch.tensor([[[[1.0, 0.05]]]], requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        loss = nn.functional.nll_loss(model(support, labels, queries)[0], torch.tensor([1]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) > 15
    assert queries.grad is not None
    assert float(queries.grad.norm()) > 1


def test_shapes_are_inferred_on_meta() -> None:
    model = MatchingNetwork(5).to("meta")
    images, labels = torch.rand(2, 5, 28, 28, device="meta"), torch.zeros(2, 5, dtype=torch.int64, device="meta")
    assert model(images, labels, images[:, :3]).shape == (2, 3, 5)
