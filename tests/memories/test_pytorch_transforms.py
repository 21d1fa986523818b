"""Cells and sequences under torch.func: many models, many episodes, gradients of each, and meta-learning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mannkern import MANN, NTM

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
ALL = pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")  # no rule of vmap is missing

CONTROLLERS: dict[str, Any] = {
    "lstm": lambda: "lstm",
    "feedforward": lambda: "feedforward",
    "own_lstm": lambda: nn.LSTMCell(11, 5, bias=False, dtype=torch.float64),
    "gru": lambda: nn.GRUCell(11, 5, dtype=torch.float64),
    "rnn": lambda: nn.RNNCell(11, 5, dtype=torch.float64),
    "relu": lambda: nn.RNNCell(11, 5, nonlinearity="relu", dtype=torch.float64),
}
EVERY_CONTROLLER = pytest.mark.parametrize("controller", CONTROLLERS)


def build(module: Any, controller: str, backend: str, whole: bool = True, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    options = {"backend": backend, "dtype": torch.float64, "memory_init": "learned"}
    model = module(3, 5, 6, 4, 2, controller=CONTROLLERS[controller](), **options)
    return model if whole else model.cell


def inputs(count: int, whole: bool) -> Tensor:
    """Inputs (count, 4, 2, 3) of sequences, or (count, 2, 3) of cells."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*((count, 4, 2, 3) if whole else (count, 2, 3)), generator=generator, dtype=torch.float64)


def flat(results: Any) -> list[Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(results) if isinstance(x, Tensor)]


def assert_each(mapped: Any, single: list[Any]) -> None:
    """Results that were mapped are those of every single call."""
    for got, *expected in zip(flat(mapped), *(flat(results) for results in single), strict=True):
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-12, atol=1e-12)


@MODULES
@ALL
@BACKENDS
@EVERY_CONTROLLER
def test_many_models(module: Any, whole: bool, backend: str, controller: str) -> None:
    models = [build(module, controller, backend, whole, seed) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    x = inputs(1, whole)[0]
    run = vmap(lambda p, b: functional_call(models[0], (p, b), (x,)))
    assert_each(run(parameters, buffers), [model(x) for model in models])


@MODULES
@ALL
@BACKENDS
@EVERY_CONTROLLER
def test_many_batches(module: Any, whole: bool, backend: str, controller: str) -> None:
    """Also from states, which are mapped with the inputs."""
    model, first, second = build(module, controller, backend, whole), inputs(3, whole), inputs(3, whole).flip(0)
    mapped = vmap(model)(first)
    single = [model(x) for x in first]
    assert_each(mapped, single)
    again = vmap(lambda x, state: model(x, state))(second, mapped[1])
    assert_each(again, [model(x, state) for x, (_, state) in zip(second, single, strict=True)])


@MODULES
@ALL
@BACKENDS
@EVERY_CONTROLLER
def test_gradient_of_each_sample(module: Any, whole: bool, backend: str, controller: str) -> None:
    model, samples = build(module, controller, backend, whole), inputs(3, whole)
    parameters = {name: x.detach() for name, x in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x,))[0].square().sum()

    got = vmap(grad(loss), (None, 0))(parameters, samples)
    single = [torch.autograd.grad(model(x)[0].square().sum(), list(model.parameters())) for x in samples]
    assert_each(list(got.values()), single)


def test_hooks_of_a_controller_run() -> None:
    """A controller with a hook is called, not written out."""
    model = build(MANN, "gru", "cpp")
    calls = []
    model.cell.controller.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        grad(lambda x: model(x)[0].sum())(inputs(1, True)[0])
    assert len(calls) == 4


def episodes(T: int, B: int, count: int) -> tuple[Tensor, Tensor]:
    """Sums so far of numbers that an unknown factor, the task, multiplies."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, T, B, 3, generator=generator, dtype=torch.float64)
    factor = 1 + torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
    return x, 0.3 * factor * x.sum(-1).cumsum(1)


@MODULES
@pytest.mark.parametrize("way", ["autograd", "func"])
@pytest.mark.slow
def test_maml(module: Any, way: str) -> None:
    """Second-order MAML (Finn et al. 2017): the loss after an inner step falls, and its gradient is the reference's.

    The inner step changes the interface, and the outer loop learns every parameter.
    """
    x, targets = episodes(3, 2, 2)
    adapted = ("cell.interface.weight", "cell.interface.bias")

    def task_loss(model: Any, parameters: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        return (functional_call(model, parameters, (x,))[0].sum(-1) - target).square().mean()

    def after_step(model: Any, parameters: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        """The loss of the second episode after a step on the first."""
        inner = {name: parameters[name] for name in adapted}

        def loss(inner: dict[str, Tensor]) -> Tensor:
            return task_loss(model, parameters | inner, x[:, :1], target[:, :1])

        if way == "func":
            gradients = grad(loss)(inner)
        else:
            found = torch.autograd.grad(loss(inner), list(inner.values()), create_graph=True)
            gradients = dict(zip(inner, found, strict=True))
        stepped = {name: x - 0.1 * gradients[name] for name, x in inner.items()}
        return task_loss(model, parameters | stepped, x[:, 1:], target[:, 1:])

    def outer(model: Any) -> Tensor:
        parameters = dict(model.named_parameters())
        if way == "func":
            return vmap(lambda x, t: after_step(model, parameters, x, t))(x, targets).mean()
        return sum(after_step(model, parameters, *task) for task in zip(x, targets, strict=True)) / len(x)

    model, plain = build(module, "lstm", "cpp"), build(module, "lstm", "reference")
    gradients = [torch.autograd.grad(outer(each), list(each.parameters())) for each in (model, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.03), []
    for _ in range(8):
        loss = outer(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses
