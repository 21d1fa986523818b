"""Rows of docs/pytorch.md: derivatives and transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

from tests.docs.pytorch.feature import COMPILED, STEPS, Feature, build, close, draw, twin

INTERFACE = "cell.interface.weight"
LITTLE = (1, 2, 3, 2, 1)  # F, D, N, W, R, since second derivatives take long


def loss(model: Any, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional_call(model, parameters, (x,))[0].square().sum()


def parameters_of(model: Any) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def functional(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(3, 2, 3)
    parameters = parameters_of(model)
    got = grad(lambda p: loss(model, p, x))(parameters)
    plain = twin(model)
    plain(x)[0].square().sum().backward()
    close(got, {name: p.grad for name, p in plain.named_parameters()})


def mapped_models(module: Any, backend: str) -> None:
    models, x = [build(module, backend) for _ in range(2)], draw(3, 2, 3)
    models[1].reset_parameters()
    parameters, buffers = stack_module_state(models)
    got = vmap(lambda p, b: functional_call(models[0], (p, b), (x,))[0])(parameters, buffers)
    close(got, torch.stack([twin(model)(x)[0] for model in models]))


def mapped_batches(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(2, 3, 2, 3)
    close(vmap(lambda x: model(x)[0])(x), torch.stack([twin(model)(each)[0] for each in x]))


def gradient_of_each_sample(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(2, 3, 1, 3)
    parameters = parameters_of(model)
    got = vmap(grad(lambda p, x: loss(model, p, x)), (None, 0))(parameters, x)
    plain = twin(model)
    close({name: g[1] for name, g in got.items()}, grad(lambda p: loss(plain, p, x[1]))(parameters))


def gradient_penalty(module: Any, backend: str) -> None:
    def penalty(model: Any) -> tuple[Tensor, ...]:
        z = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(model(z)[0].square().sum(), z, create_graph=True)
        return torch.autograd.grad(first.square().sum(), list(model.parameters()))

    model, x = build(module, backend, LITTLE, memory_init="uniform"), draw(1, 1, 1)
    close(penalty(model), penalty(twin(model)))
    assert gradgradcheck(lambda z: model(z)[0], x.requires_grad_(), fast_mode=True)


def adapted(model: Any, x: Tensor) -> tuple[Tensor, ...]:
    """The gradient of MAML: of the loss on one episode after a step on another."""
    parameters = dict(model.named_parameters())
    weight = parameters[INTERFACE]
    (g,) = torch.autograd.grad(loss(model, parameters, x[:, :1]), weight, create_graph=True)
    return torch.autograd.grad(loss(model, parameters | {INTERFACE: weight - 0.1 * g}, x[:, 1:]), weight)


def maml(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(3, 2, 3)
    close(adapted(model, x), adapted(twin(model), x))


def total(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: model(x)[0].square().sum()


def jacobians(module: Any, backend: str) -> None:
    model, x = build(module, backend, LITTLE), draw(2, 1, 1)
    plain = total(twin(model))
    close(jacrev(total(model))(x), torch.autograd.functional.jacobian(plain, x))
    close(hessian(total(model))(x), torch.autograd.functional.hessian(plain, x))


def forward_mode(module: Any, backend: str) -> None:
    model, x, tangent = build(module, backend, LITTLE), draw(2, 1, 1), draw(2, 1, 1)
    gradient = torch.autograd.functional.jacobian(total(twin(model)), x)
    close(jvp(total(model), (x,), (tangent,))[1], (gradient * tangent).sum())
    close(jacfwd(total(model))(x), gradient)


def dual_numbers(module: Any, backend: str) -> None:
    model, x, tangent = build(module, backend, LITTLE), draw(2, 1, 1), draw(2, 1, 1)
    gradient = torch.autograd.functional.jacobian(total(twin(model)), x)
    with forward_ad.dual_level():
        result = total(model)(forward_ad.make_dual(x, tangent))
        close(forward_ad.unpack_dual(result).tangent, (gradient * tangent).sum())


SECOND = ("tests/memories/test_pytorch_derivatives.py::test_half_precision",)
FEATURES = (
    Feature(
        "`torch.func.grad`, `functional_call`",
        "A call of `functional_call` alone keeps the compiled loop. Under a transform of `torch.func` the loop is over "
        "single steps, whose kernels are mapped.",
        STEPS,
        STEPS,
        functional,
    ),
    Feature(
        "`vmap` over models (`stack_module_state`)",
        "The parameters of many modules are mapped.",
        STEPS,
        STEPS,
        mapped_models,
    ),
    Feature("`vmap` over batches", "Inputs and states are mapped.", STEPS, STEPS, mapped_batches),
    Feature(
        "Gradients of each sample, `vmap(grad(...))`",
        "For differential privacy.",
        STEPS,
        STEPS,
        gradient_of_each_sample,
    ),
    Feature(
        "`create_graph=True`, `gradgradcheck`",
        "The forward pass takes the compiled loop. The gradient that is differentiated again is computed by the "
        "reference, which is slower.",
        COMPILED,
        STEPS,
        gradient_penalty,
        triton="operations",
        evidence=SECOND,
    ),
    Feature(
        "MAML by `functional_call` and `create_graph=True`",
        "With `torch.func.grad` as the inner step it works too, step by step.",
        COMPILED,
        STEPS,
        maml,
        evidence=("tests/memories/test_pytorch_transforms.py::test_maml",),
    ),
    Feature("`jacrev`, `hessian`", "Second derivatives are computed by the reference.", STEPS, STEPS, jacobians),
    Feature("`jvp`, `jacfwd`", "They are computed by the reference.", STEPS, STEPS, forward_mode),
    Feature(
        "`forward_ad.dual_level`",
        "Values and tangents are computed by the reference.",
        STEPS,
        STEPS,
        dual_numbers,
    ),
)
