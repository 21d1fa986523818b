"""What every few-shot model does as a module of PyTorch: half precision, compilation, export, vmap, no query at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mannkern.models import ConvEmbedding, MatchingNetwork, MetaMemoryNetwork, MetaNetwork

C = 5
MODELS: dict[str, Callable[[], nn.Module]] = {
    "matching": lambda: MatchingNetwork(C, width=8),
    "meta-networks": lambda: MetaNetwork(C, width=8, meta_size=4),
    "meta-memory": lambda: MetaMemoryNetwork(ConvEmbedding(8), 8, C, hidden_size=8),
}
EVERY = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def episode(Q: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    support, queries = (torch.rand(2, n, 16, 16, generator=generator) for n in (C, Q))
    return support, torch.arange(C).expand(2, C), queries


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """As near to float32 as its digits let it be, through a softmax and, in two models, through gradients."""
    support, labels, queries = episode()
    expected = build(name)(support, labels, queries)
    got = build(name).to(dtype)(support.to(dtype), labels, queries.to(dtype))
    assert got.isfinite().all()
    torch.testing.assert_close(got.float().softmax(-1), expected.softmax(-1), atol=0.05, rtol=0.05)


def test_targets_of_another_float_type() -> None:
    model = MetaMemoryNetwork(nn.Linear(6, 8), 8, 2, loss="mean_squared_error", hidden_size=8)
    support, targets, queries = torch.randn(2, 4, 6), torch.randn(2, 4, 2), torch.randn(2, 3, 6)
    assert torch.equal(model(support, targets.double(), queries), model(support, targets, queries))


@EVERY
def test_no_query(name: str) -> None:
    assert build(name)(*episode(Q=0)).shape == (2, 0, C)


@EVERY
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # raised by torch's tracing
def test_one_graph_of_compile(name: str) -> None:
    model, arguments = build(name), episode()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), model(*arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_export() -> None:
    """Of a Matching Network; the other two take gradients by torch.func, which torch.export does not trace."""
    model, arguments = build("matching"), episode()
    with torch.no_grad():
        program = torch.export.export(model, arguments)
        torch.testing.assert_close(program.module()(*arguments), model(*arguments), atol=1e-5, rtol=1e-5)


def test_episodes_by_vmap() -> None:
    model, (support, labels, queries) = build("matching"), episode()

    def one(support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        return model(support[None], labels[None], queries[None])[0]

    with torch.no_grad():
        got = torch.func.vmap(one)(support, labels, queries)
    torch.testing.assert_close(got, model(support, labels, queries).detach())
