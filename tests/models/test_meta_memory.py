"""The meta-memory network: its equations by hand, its gradients, what changes nothing, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mannkern.functional import cosine_read
from mannkern.models import MetaMemoryNetwork
from tests.models.meta_memory import LOSSES, build, task


def by_hand(first_order: bool, learned: tuple[str, ...], **options: Any) -> MetaMemoryNetwork:
    """out = u relu(w [e, r] + c) + d + s v, e = x: w = (1, 0, 1), u = s = 1, c = d = 0; steps 0.1 where ``learned``"""
    model = MetaMemoryNetwork(
        nn.Identity(), 1, 1, loss="mean_squared_error", hidden_size=1, layers=1, first_order=first_order, **options
    ).double()
    start = {
        "reasoning.0.weight": [[1.0, 0.0, 1.0]],
        "reasoning.0.bias": [0.0],
        "output.weight": [[1.0]],
        "output.bias": [0.0],
        "vote": [1.0],
    }
    with torch.no_grad():
        for (name, parameter), step_size in zip(model.answer.named_parameters(), model.step_sizes, strict=True):
            parameter.copy_(torch.tensor(start[name]))
            step_size.fill_(0.1 if name in learned else 0.0)
    return model


ALL = ("reasoning.0.weight", "reasoning.0.bias", "output.weight", "output.bias", "vote")
SUPPORT = torch.tensor([[[2.0]]], dtype=torch.float64)
TARGET = torch.tensor([[[1.0]]], dtype=torch.float64)
QUERY = torch.tensor([[[0.5]]], dtype=torch.float64)


def test_one_step_by_hand() -> None:
    """One example, e = 2 and y = 1, reads an empty memory: out = 2, error 1, dL/d(w_e, c, u, d) = (4, 2, 4, 2)."""
    adapted = by_hand(False, ALL).adapt(SUPPORT, TARGET)
    expected = {
        "reasoning.0.weight": [[[0.6, 0.0, 1.0]]],  # of an empty memory nothing is learned
        "reasoning.0.bias": [[-0.2]],
        "output.weight": [[[0.6]]],
        "output.bias": [[-0.2]],
        "vote": [[1.0]],
    }
    for name, value in expected.items():
        torch.testing.assert_close(adapted.parameters[name], torch.tensor(value, dtype=torch.float64))
    # the query finds [M, v] = [2, 1] with weight 1: relu(0.6 * 0.5 + 0 * 2 + 1 * 1 - 0.2) = 1.1
    torch.testing.assert_close(adapted(QUERY), torch.tensor([[[0.6 * 1.1 - 0.2 + 1]]], dtype=torch.float64))


def test_two_steps_by_hand() -> None:
    """Only w_e learns: w <- w - 0.1 * 2 (2 w - 1) * 2 takes 1 to 0.6, then 0.6 to 0.52."""
    model = by_hand(False, ("reasoning.0.weight",))
    for steps, expected in ((0, 1.0), (1, 0.6), (2, 0.52)):
        found = model.adapt(SUPPORT, TARGET, steps=steps).parameters["reasoning.0.weight"][0, 0, 0]
        assert found.item() == pytest.approx(expected)


def test_a_long_gradient_is_shortened_to_the_largest_norm() -> None:
    """(4, 2, 4, 2) has norm sqrt(40), of the task's parameters together; with y = 2 the gradient is 0, and no NaN."""
    support, targets = SUPPORT.repeat(2, 1, 1), torch.cat([TARGET, 2 * TARGET])
    model = by_hand(False, ALL, max_norm=2.0)
    adapted = model.adapt(support, targets)
    weight = adapted.parameters["reasoning.0.weight"][:, 0, 0]
    torch.testing.assert_close(weight, torch.tensor([1 - 0.1 * 4 * 2 / 40**0.5, 1.0]).double())
    bias = adapted.parameters["output.bias"][:, 0]
    torch.testing.assert_close(bias, torch.tensor([-0.1 * 2 * 2 / 40**0.5, 0.0]).double())
    adapted(QUERY.repeat(2, 1, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.answer.parameters())


@pytest.mark.parametrize("first_order", [False, True])
def test_outer_gradients_by_hand(first_order: bool) -> None:
    """out = w' q + 2 v, w' = w - a g, g = 2 (2 w - y) 2: d out / d w = q (1 - 8 a) = 0.2 q, or q if g is constant."""
    model = by_hand(first_order, ("reasoning.0.weight",))
    model(SUPPORT, TARGET, QUERY).sum().backward()
    weight = model.answer.get_parameter("reasoning.0.weight").grad
    assert weight is not None
    assert weight[0, 0].item() == pytest.approx(0.5 if first_order else 0.5 * (1 - 8 * 0.1))
    place = [name for name, _ in model.answer.named_parameters()].index("reasoning.0.weight")
    step_size = model.step_sizes[place].grad
    assert step_size is not None
    assert step_size[0, 0].item() == pytest.approx(-4 * 0.5), "d out / d a = -g q, of both orders"


def test_a_query_by_hand() -> None:
    """Without steps: what cosine_read finds and its labels, two layers of ReLUs over [e, r], and the vote."""
    model = build(steps=0, strength=3.0)
    support, labels, queries = task(B=1)
    memory, keys = model.embedding(support)[0], model.embedding(queries)[0]
    weights = torch.softmax(3 * F.normalize(keys) @ F.normalize(memory).T, -1)
    values = weights @ torch.eye(3).double().repeat(2, 1)
    p = dict(model.answer.named_parameters())
    hidden = torch.cat([keys, weights @ memory, values], -1)
    for layer in (0, 2):
        hidden = torch.relu(hidden @ p[f"reasoning.{layer}.weight"].T + p[f"reasoning.{layer}.bias"])
    expected = hidden @ p["output.weight"].T + p["output.bias"] + 10 * values
    torch.testing.assert_close(model(support, labels, queries)[0], expected)


def test_a_step_is_the_gradient_of_the_support_loss() -> None:
    """Against plain autograd, every example reading a memory from which its slot was taken."""
    model = build(step_size=0.05)
    support, labels, _ = task(B=1)
    memory = model.embedding(support)[0].detach()
    rows = []
    for i, e in enumerate(memory):
        rest = [j for j in range(6) if j != i]
        strength = model.log_strength.detach().exp().view(1, 1)
        found, weights = cosine_read(memory[None, rest], e.view(1, 1, -1), strength)
        values = weights @ F.one_hot(labels[:, rest], 3).double()
        rows.append(torch.cat([e, found[0, 0], values[0, 0]]))
    loss = F.cross_entropy(model.answer(torch.stack(rows)), labels[0])
    gradients = torch.autograd.grad(loss, list(model.answer.parameters()))
    adapted = model.adapt(support, labels).parameters
    for (name, before), gradient in zip(model.answer.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(adapted[name][0], before - 0.05 * gradient)


def test_the_reads_of_a_class_of_one_are_empty_for_its_task_alone() -> None:
    """Task 0 has two of each class, task 1 one of class 2: nothing is learned of task 1's reads."""
    model = build()
    support, labels, _ = task(B=2)
    labels[1] = torch.tensor([0, 1, 2, 0, 1, 1])
    before = model.answer.get_parameter("reasoning.0.weight")
    after = model.adapt(support, labels).parameters["reasoning.0.weight"]
    assert torch.equal(after[1, :, 4:], before[:, 4:])
    assert not torch.equal(after[1, :, :4], before[:, :4])
    assert not torch.isclose(after[0, :, 4:], before[:, 4:]).all(0).any()


def test_regression_leaves_one_out_whatever_the_targets() -> None:
    model = build("mean_squared_error")
    support, targets, _ = task("mean_squared_error", shots=1)
    before = model.answer.get_parameter("reasoning.0.weight")
    after = model.adapt(support, targets).parameters["reasoning.0.weight"]
    assert not torch.isclose(after[:, :, 4:], before[:, 4:]).all(1).any()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_every_parameter(loss: str, first_order: bool) -> None:
    model = build(loss, steps=2, first_order=first_order)
    model(*task(loss)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("max_norm", [0.1, math.inf])
@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_second_order_gradients_are_exact(loss: str, shots: int, max_norm: float) -> None:
    model = build(loss, outputs=3, width=3, hidden_size=4, steps=2, max_norm=max_norm)
    support, labels, queries = task(loss, B=2, shots=shots, Q=2)
    names = [name for name, _ in model.named_parameters()]

    def outputs(support: Tensor, queries: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, parameters, strict=True)), (support, labels, queries))

    inputs = [support, queries, *model.parameters()]
    assert torch.autograd.gradcheck(outputs, [x.detach().requires_grad_() for x in inputs])


def test_first_order_gradients_are_those_with_the_steps_held_fixed() -> None:
    """The same as adding each step to the parameters as a constant, but for its learned size."""
    model = build(first_order=True)
    support, labels, queries = task()
    model(support, labels, queries).square().sum().backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    step = {
        name: (p - model.answer.get_parameter(name)).detach()
        for name, p in model.adapt(support, labels).parameters.items()
    }
    adapted = model.adapt(support, labels, steps=0)
    adapted.parameters = {name: p + step[name] for name, p in adapted.parameters.items()}
    adapted(queries).square().sum().backward()
    for name, parameter in model.named_parameters():
        if not name.startswith("step_sizes"):
            torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_support_set_changes_nothing(loss: str, shots: int) -> None:
    model = build(loss, steps=3)
    support, labels, queries = task(loss, shots=shots)
    order = torch.randperm(3 * shots, generator=torch.Generator().manual_seed(3))
    permuted = model(support[:, order], labels[:, order], queries)
    torch.testing.assert_close(permuted, model(support, labels, queries), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_tasks_at_once_are_each_alone(loss: str) -> None:
    model = build(loss, steps=3)
    support, labels, queries = task(loss)
    outputs = model(support, labels, queries)
    for b in range(3):
        alone = model(support[b : b + 1], labels[b : b + 1], queries[b : b + 1])
        torch.testing.assert_close(alone[0], outputs[b], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_adaptation_leaves_the_base_parameters(loss: str, grad: bool) -> None:
    model = build(loss, steps=5).eval()
    support, labels, queries = task(loss)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with torch.set_grad_enabled(grad):
        unadapted = model.adapt(support, labels, steps=0)(queries)
        adapted = model.adapt(support, labels)(queries)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert not torch.allclose(adapted, unadapted)
    assert adapted.requires_grad == grad
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_forward_is_adapt_then_answer(loss: str) -> None:
    model = build(loss, steps=2)
    support, labels, queries = task(loss)
    torch.testing.assert_close(model(support, labels, queries), model.adapt(support, labels)(queries))


def test_images_and_batch_norm() -> None:
    """Support set and queries pass the embedding together, so batch norm in training sees one batch."""
    torch.manual_seed(0)
    sizes: list[int] = []
    embedding = nn.Sequential(nn.Flatten(2), nn.Linear(16, 6))
    embedding.register_forward_hook(lambda module, args, output: sizes.append(args[0].shape[1]))
    model = MetaMemoryNetwork(embedding, 6, 5, hidden_size=8)
    labels = torch.arange(5).repeat(2, 1)
    assert model(torch.rand(2, 5, 4, 4), labels, torch.rand(2, 7, 4, 4)).shape == (2, 7, 5)
    assert sizes == [12]


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_backends_agree(backend: str) -> None:
    def gradients(backend: str | None) -> list[Tensor]:
        model = build(steps=2, backend=backend)
        model(*task()).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for found, expected in zip(gradients(backend), gradients("reference"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shots", [1, 2])
def test_no_task_at_all(shots: int) -> None:
    support, labels, queries = task(B=0, shots=shots)
    assert build()(support, labels, queries).shape == (0, 4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("first_order", [False, True])
def test_training_lowers_the_loss_after_adaptation(first_order: bool) -> None:
    """Lines through the origin with a slope of their own: three points tell it."""
    torch.manual_seed(0)
    model = MetaMemoryNetwork(
        nn.Sequential(nn.Linear(1, 16), nn.Tanh()), 16, 1, loss="mean_squared_error", hidden_size=16, layers=1,
        step_size=0.05, first_order=first_order,
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        x, slopes = 2 * torch.rand(16, 8, 1) - 1, 4 * torch.rand(16, 1, 1) - 2
        outputs = model(x[:, :3], (slopes * x)[:, :3], x[:, 3:])
        loss = F.mse_loss(outputs, (slopes * x)[:, 3:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.3 * losses[0]
