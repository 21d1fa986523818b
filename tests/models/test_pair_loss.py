"""The loss of pairs that Meta Networks may train their embedding with, and the sizes that their authors use."""

from __future__ import annotations

import pytest
import torch

from mannkern.models import MetaNetwork
from mannkern.models.layer_augmentation import AugmentedNetwork
from mannkern.models.pair_loss import pair_gradients, pair_loss, partners
from tests.models.meta_networks import build, close, episodes


def test_two_pairs_by_hand() -> None:
    """A distance of 2 to the same class costs 2; one of 1/2 to another class (1 - 1/2)^2 / 2, and one of 3 nothing."""
    e, same = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 0.0])
    assert pair_loss(e, same, torch.tensor([0.0, 0.5])).item() == pytest.approx(2.125)
    assert pair_loss(e, same, torch.tensor([0.0, 3.0])).item() == pytest.approx(2.0)
    leaf = torch.zeros(2, requires_grad=True)
    pair_loss(leaf, leaf, leaf).backward()
    assert leaf.grad is not None
    assert bool(leaf.grad.isfinite().all()), "two embeddings may be equal"


def test_partners_by_hand() -> None:
    same, other = partners(torch.tensor([[0, 1, 0, 2], [1, 1, 1, 1]]))
    assert same.tolist() == [[2, 1, 0, 3], [1, 2, 3, 0]], "without another of its class an example is its own partner"
    assert other.tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


def test_gradients_are_those_of_each_example_alone() -> None:
    torch.manual_seed(0)
    network = AugmentedNetwork(3, 4, 2, 1).double().eval()
    labels = torch.tensor([[0, 1, 0, 1], [2, 2, 0, 1]])
    features = network.features(torch.rand(2, 4, 4, 4, dtype=torch.float64))
    found = pair_gradients(network, features, labels)
    assert list(found) == ["convolutions.0.weight", "hidden.weight"], "the output layer has no part in it"
    embedded = network(features, embed=True)
    same, other = partners(labels)
    for b in range(2):
        for i in range(4):
            loss = pair_loss(embedded[b, i], embedded[b, same[b, i]], embedded[b, other[b, i]])
            names = list(found)
            alone = torch.autograd.grad(loss, [network.get_parameter(name) for name in names], retain_graph=True)
            for name, gradient in zip(names, alone, strict=True):
                close(found[name][b, i], gradient)


def test_a_network_with_pairs_learns_from_them() -> None:
    """Gradients reach all that answers pass through; the embedding's output layer is left out."""
    model = build(pairs=True)
    support, labels, queries = episodes(2, K=2)
    assert not torch.allclose(model(support, labels, queries), build()(support, labels, queries))
    model(support, labels, queries).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"embedding.output.weight"}
    assert model.embedding.hidden.weight.grad is not None
    assert model.embedding.hidden.weight.grad.abs().max() > 0


def test_the_authors_sizes() -> None:
    """Five blocks with fast weights in all layers take 28 pixels, since pooling rounds up: 14, 7, 4, 2, 1."""
    torch.manual_seed(0)
    model = MetaNetwork(3, width=4, blocks=5, augmented_blocks=5, meta_size=4, round_up=True)
    assert len(model.embedding.augmented()) == 7
    support, labels = torch.rand(1, 3, 28, 28), torch.tensor([[0, 2, 1]])
    assert model(support, labels, torch.rand(1, 2, 28, 28)).shape == (1, 2, 3)
    trunk = MetaNetwork(3, width=4, blocks=5, round_up=True).learner
    assert trunk.features(torch.rand(1, 2, 28, 28)).shape == (1, 2, 4, 1, 1)
    with pytest.raises(ValueError, match="need at least 32 a side"):
        MetaNetwork(3, width=4, blocks=5)(support, labels, torch.rand(1, 2, 28, 28))
