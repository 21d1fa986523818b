"""Meta Networks: the equations by hand and by a plain loop, where gradients flow, and what does not matter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.models import MetaNetwork
from mannkern.models.fast_weights import ExampleWeights, TaskWeights, preprocess
from mannkern.models.layer_augmentation import AugmentedNetwork
from mannkern.models.meta_networks import example_gradients
from tests.models.meta_networks import SMALL, build, close, episodes, plain, plain_forward

AUGMENTED = pytest.mark.parametrize("augmented", [0, 1, 2])


# The pieces, by hand


def test_example() -> None:
    """From |g| = e^-7 on it is (log|g| / 7, sign g), so -e^-3.5 becomes (-1/2, -1); below, it is (-1, e^7 g)."""
    g = torch.tensor([1.0, -math.exp(-3.5), math.exp(-8), -math.exp(-9), 0.0, 20.0], dtype=torch.float64)
    log = [0, -0.5, -1, -1, -1, math.log(20) / 7]
    sign = [1, -1, math.exp(-1), -math.exp(-2), 0, 1]
    close(preprocess(g), torch.tensor([log, sign], dtype=torch.float64))
    leaf = torch.zeros(3, requires_grad=True)
    assert torch.equal(torch.autograd.grad(preprocess(leaf).sum(), leaf)[0], torch.full((3,), math.exp(7.0)))


def test_gradients_of_a_two_layer_network_by_hand() -> None:
    """Without augmented blocks it is softmax(V relu(U x)) = p: dL/dV = (p - y) h^T, and dL/dU by the chain rule."""
    torch.manual_seed(0)
    network = AugmentedNetwork(3, 4, 1, 0).double()
    features = torch.randn(2, 5, 4, 1, 1, dtype=torch.float64)
    labels = torch.randint(3, (2, 5))
    found = example_gradients(network, features, labels)
    assert list(found) == ["hidden.weight", "output.weight"]
    U, V = network.hidden.weight.detach(), network.output.weight.detach()
    for e in range(2):
        for i in range(5):
            x = features[e, i].flatten()
            h = (U @ x).clamp_min(0)
            error = (V @ h).softmax(0) - torch.eye(3, dtype=torch.float64)[labels[e, i]]
            close(found["output.weight"][e, i], error[:, None] * h)
            close(found["hidden.weight"][e, i], ((V.T @ error) * (U @ x > 0))[:, None] * x)


def test_layer_augmentation_by_hand() -> None:
    """Each path has its own ReLU, and they are added after it; the last layer has none."""
    network = AugmentedNetwork(2, 2, 1, 0)
    with torch.no_grad():
        network.hidden.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        network.output.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([2.0, 3.0]).view(1, 1, 2, 1, 1)
    fast = {
        "hidden.weight": torch.tensor([[[-2.0, 0.0], [0.0, 5.0]]]),
        "output.weight": torch.tensor([[[0.0, -1.0], [0.0, 0.0]]]),
    }
    # U x = (2, -3), U* x = (-4, 15): relu and relu are (2, 0) + (0, 15), while relu of the sum would be (0, 12)
    assert network(x, fast).tolist() == [[[2.0 - 15.0, 15.0]]]
    assert network.embed(x, fast).tolist() == [[[-2.0, 12.0]]]
    assert network(x).tolist() == [[[2.0, 0.0]]]


def test_fast_convolutions() -> None:
    torch.manual_seed(0)
    network = AugmentedNetwork(3, 4, 2, 2).double()
    fast = {name: torch.randn(2, *network.get_parameter(name).shape).double() for name in network.augmented()}
    images = torch.randn(2, 3, 4, 4).double()
    got = network(network.features(images), fast)
    for e in range(2):
        close(got[e], plain_forward(network, images[e].unsqueeze(1), {name: w[e] for name, w in fast.items()})[1])


def test_task_weights_are_an_lstm_of_every_weight() -> None:
    torch.manual_seed(0)
    module = TaskWeights(6).double()
    gradients = torch.randn(4, 2, 3, 2).double() * 1e-2
    lstm = nn.LSTM(2, 6).double()
    for name, value in module.lstm.named_parameters():
        lstm.get_parameter(f"{name}_l0").data.copy_(value)
    got = module(gradients)
    assert got.shape == (2, 3, 2)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in got.shape)).tolist():
        one = torch.stack([preprocess(g[tuple(place)]) for g in gradients])
        close(got[tuple(place)], module.output(lstm(one)[0][-1])[0] / math.sqrt(2))  # two inputs


def test_example_weights_are_a_network_of_every_weight() -> None:
    torch.manual_seed(0)
    module = ExampleWeights(6).double()
    gradients = torch.randn(1, 2, 3, 4, 5).double() * 1e-2
    got = module(gradients)
    assert got.shape == (1, 2, 3, 4, 5)
    for i, g in enumerate(gradients.flatten()):
        expected = module.output(module.second(module.first(preprocess(g)).relu()).relu())[0]
        close(got.flatten()[i], expected / math.sqrt(20))  # 4 x 5 inputs


def test_opposite_gradients_have_opposite_weights_at_first() -> None:
    """So the fast weights of a layer have both signs, and some ReLUs behind them fire, whatever the seed."""
    for seed in range(10):
        torch.manual_seed(seed)
        gradients = torch.randn(4, 3, 10, 5, dtype=torch.float64) * 1e-2
        for module in (TaskWeights(6).double(), ExampleWeights(6).double()):
            close(module(-gradients), -module(gradients))
            assert module(gradients).abs().max() > 0


# The whole


@AUGMENTED
@pytest.mark.parametrize(("shots", "steps"), [(1, 5), (2, 4), (2, 1)])
def test_equals_plain_loops(augmented: int, shots: int, steps: int) -> None:
    """Logits, and the gradient of a loss for every slow weight, through the gradients too."""
    model, batch = build(augmented=augmented, steps=steps, strength=float(shots)), episodes(2, K=shots)
    names, parameters = zip(*model.named_parameters(), strict=True)
    results = []
    for logits in (model(*batch), plain(model, *batch)):
        loss = F.cross_entropy(logits.flatten(0, 1), torch.arange(8) % 3)
        results.append((logits, torch.autograd.grad(loss, parameters, materialize_grads=True)))
    (got, found), (expected, wanted) = results
    close(got, expected)
    for name, a, b in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")
        assert b.abs().max() > 0 or (steps == 1 and name.endswith("weight_hh")), f"no gradient reaches {name}"


@AUGMENTED
def test_every_slow_weight_learns(augmented: int) -> None:
    model = build(augmented=augmented).train()
    F.cross_entropy(model(*episodes(4)).flatten(0, 1), torch.arange(16) % 3).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert parameter.grad.isfinite().all(), name


def test_meta_information_counts_twice() -> None:
    """The embedding's output layer has no part in a key: it learns through the gradients alone."""
    model, batch = build(), episodes(2)
    embedded = model.embedding.features(batch[0])
    keys = model.embedding.embed(embedded, model.task_level(embedded, batch[1]))
    assert torch.autograd.grad(keys.sum(), model.embedding.output.weight)[0].abs().max() > 0


@AUGMENTED
def test_episodes_at_once_equal_each_alone(augmented: int) -> None:
    model, batch = build(augmented=augmented), episodes(3)
    alone = torch.cat([model(*(x[e : e + 1] for x in batch)) for e in range(3)])
    close(model(*batch), alone)


@AUGMENTED
def test_queries_do_not_see_each_other(augmented: int) -> None:
    model, (support, labels, queries) = build(augmented=augmented), episodes(2)
    alone = torch.cat([model(support, labels, queries[:, q : q + 1]) for q in range(4)], 1)
    close(model(support, labels, queries), alone)


@AUGMENTED
def test_order_of_the_support_set(augmented: int) -> None:
    """It means nothing within a part of the T, and so nothing at all where T is 1; the parts are a sequence."""
    support, labels, queries = episodes(2, K=2)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    model = build(augmented=augmented, steps=1)
    close(model(support[:, order], labels[:, order], queries), model(support, labels, queries))
    model, within = build(augmented=augmented, steps=3), torch.tensor([1, 0, 2, 3, 5, 4])
    close(model(support[:, within], labels[:, within], queries), model(support, labels, queries))
    change = model(support[:, order], labels[:, order], queries) - model(support, labels, queries)
    assert change.abs().max() > 1e-6


def test_order_does_not_matter_to_the_memory() -> None:
    """With the fast weights of the task given, permuting the support set permutes R and M."""
    model, (support, labels, _), order = build(), episodes(2, K=2), torch.tensor([4, 2, 0, 5, 1, 3])
    features = model.learner.features(support)
    memory = model.example_level(features, labels)
    for name, x in model.example_level(features[:, order], labels[:, order]).items():
        close(x, memory[name][:, order])


def test_labels_mean_nothing_beyond_their_episode() -> None:
    """The answer for a query rests on the support set's labels: another labelling gives another answer."""
    model, (support, labels, queries) = build(), episodes(2)
    change = model(support, labels, queries) - model(support, (labels + 1) % 3, queries)
    assert change.abs().amax(-1).min() > 1e-6


@pytest.mark.parametrize(("B", "Q"), [(0, 4), (2, 0)])
def test_empty(B: int, Q: int) -> None:
    assert build()(*episodes(B, Q=Q)).shape == (B, Q, 3)


def test_standard_sizes() -> None:
    model = MetaNetwork(5)
    logits = model(torch.rand(2, 5, 20, 20), torch.arange(5).repeat(2, 1), torch.rand(2, 3, 20, 20))
    assert logits.shape == (2, 3, 5)
    assert model.learner.augmented() == ["hidden.weight", "output.weight"]
    assert (model.learner.hidden.weight.shape, model.learner.output.weight.shape) == ((64, 64), (5, 64))


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_backends(backend: str) -> None:
    batch = episodes(2)
    close(build(backend=backend)(*batch), build(backend="reference")(*batch))


def test_training_lowers_the_loss() -> None:
    """Two patterns bound to two labels anew in each episode."""
    torch.manual_seed(0)
    model, g = MetaNetwork(2, width=8, blocks=2), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        patterns = torch.stack((torch.eye(8), torch.eye(8).flip(1)))
        labels = torch.rand(16, 2, generator=g).argsort(1)
        which = torch.randint(2, (16, 4), generator=g)
        support = patterns.expand(16, 2, 8, 8) + 0.1 * torch.randn(16, 2, 8, 8, generator=g)
        queries = patterns[which] + 0.1 * torch.randn(16, 4, 8, 8, generator=g)
        loss = F.cross_entropy(model(support, labels, queries).flatten(0, 1), labels.gather(1, which).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5 * math.log(2)


@pytest.mark.parametrize("name", ["num_classes", "width", "blocks", "steps"])
def test_sizes_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: got 0, need at least 1"):
        MetaNetwork(**{"num_classes": 3, name: 0})


@pytest.mark.parametrize("size", [0, 5])
def test_meta_size_is_even(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^meta_size: got {size}, need an even number of at least 2"):
        MetaNetwork(3, meta_size=size)


@pytest.mark.parametrize("strength", [0.0, -1.0, math.inf, math.nan])
def test_strength_is_above_zero(strength: float) -> None:
    with pytest.raises(ValueError, match=rf"^strength: got {strength}, need a finite number above 0"):
        MetaNetwork(3, strength=strength)


@pytest.mark.parametrize("augmented", [-1, 5])
def test_augmented_blocks_are_some_of_the_blocks(augmented: int) -> None:
    with pytest.raises(ValueError, match=rf"^augmented_blocks: got {augmented}, need 0 to blocks = 4"):
        MetaNetwork(3, augmented_blocks=augmented)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"support": torch.zeros(2, 3, 8)}, ValueError, r"^support: got shape \(2, 3, 8\), need \(B, N, P, P\)"),
        ({"support": torch.zeros(2, 3, 8, 7)}, ValueError, r"^queries: got shape \(2, 4, 8, 8\), need \(2, Q, 8, 7\)"),
        ({"support": torch.zeros(2, 0, 8, 8)}, ValueError, r"^support: got no drawings"),
        (
            {"support": torch.zeros(2, 3, 3, 3), "queries": torch.zeros(2, 4, 3, 3)},
            ValueError,
            r"^support: got \(3, 3\) pixels, need at least 4",
        ),
        ({"queries": torch.zeros(1, 4, 8, 8)}, ValueError, r"^queries: got shape \(1, 4, 8, 8\), need \(2, Q, 8, 8\)"),
        ({"queries": torch.zeros(2, 8, 8)}, ValueError, r"^queries: got shape \(2, 8, 8\), need \(B, N, P, P\)"),
        ({"labels": torch.zeros(2, 4).long()}, ValueError, r"^labels: got shape \(2, 4\), need \(2, 3\)"),
        ({"labels": torch.zeros(2, 3)}, TypeError, r"^labels: got torch.float32, need torch.int64"),
        ({"labels": torch.full((2, 3), 3)}, ValueError, r"^labels: got 3 to 3, need 0 to 2"),
    ],
)
def test_wrong_episodes(change: dict[str, Tensor], error: type[Exception], message: str) -> None:
    model = MetaNetwork(3, **SMALL)
    batch = dict(zip(("support", "labels", "queries"), episodes(2), strict=True)) | change
    with pytest.raises(error, match=message):
        model(**batch)
