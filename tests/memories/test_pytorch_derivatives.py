"""Forward-mode derivatives, and derivatives of gradients, of operations, cells and sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp

from mannkern import functional, reference
from tests.helpers import CASES, MAIN_CASES, Shape, Tensors, arguments, as_function, assert_accurate, cotangents
from tests.interpreter import interpreted
from tests.memories.sequences import BOTH, MOST, Sequence, apply, build, episode, loop, named

LITTLE = Shape(1, 3, 2, 2, 2, T=2)
FAST: dict[str, bool] = {"fast_mode": True, "check_undefined_grad": False}
ALL = pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of torch.jit in forward mode


def test_example() -> None:
    """A head writes w a = 3 w to a slot, so the square of the memory has the second derivative 2 x 3^2 in w."""
    memory, add = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 3.0)

    def square(w: Tensor) -> Tensor:
        return functional.additive_write(memory, w.view(1, 1, 1), add).square().sum()

    w = torch.tensor(0.5)
    assert grad(grad(square))(w) == hessian(square)(w) == 18
    assert jvp(square, (w,), (torch.tensor(1.0),)) == (2.25, 9)


@pytest.mark.parametrize("case", MAIN_CASES)
def test_operation(case: str) -> None:
    function, values = as_function(case, LITTLE, "cpp")
    assert gradcheck(function, values, check_forward_ad=True, check_batched_forward_grad=True, **FAST)
    gradients = tuple(x.requires_grad_() for x in cotangents(CASES[case], LITTLE, torch.float64).values())
    assert gradgradcheck(function, values, gradients, check_fwd_over_rev=True, **FAST)


def pulled_back_twice(loss: Callable[[Tensor], Tensor], x: Tensor) -> Any:
    pull = vjp(loss, x)[1]
    one = torch.ones((), dtype=x.dtype)
    return vjp(lambda c: pull(c)[0], one)[1](x), jvp(lambda c: pull(c)[0], (one,), (one,))


SECOND: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "jacrev of grad": lambda loss, x: jacrev(grad(loss))(x),
    "jacfwd of grad": lambda loss, x: jacfwd(grad(loss))(x),
    "jacrev of jacrev": lambda loss, x: jacrev(jacrev(loss))(x),
    "jacrev of jacfwd": lambda loss, x: jacrev(jacfwd(loss))(x),
    "jacfwd of jacfwd": lambda loss, x: jacfwd(jacfwd(loss))(x),
    "hessian": lambda loss, x: hessian(loss)(x),
    "autograd": lambda loss, x: torch.autograd.functional.hessian(loss, x),
    "vectorized": lambda loss, x: torch.autograd.functional.hessian(loss, x, vectorize=True),
}


@pytest.mark.parametrize("case", ["step_strength", "scan", "ntm_address", "ntm_write"])
def test_transforms_agree(case: str) -> None:
    """Every way to a Hessian gives the reference's, and so do derivatives of a function that vjp has returned."""

    def loss_of(backend: str) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        function, values = as_function(case, LITTLE, backend)
        first, *others = (x.detach() for x in values)
        return lambda x: sum(y.sin().square().sum() for y in function(x, *others)), first

    expected = torch.autograd.functional.hessian(*loss_of("reference"))
    for way, second in SECOND.items():
        torch.testing.assert_close(
            second(*loss_of("cpp")), expected, rtol=1e-11, atol=1e-11, msg=lambda m, w=way: w + m
        )
    results = [pulled_back_twice(*loss_of(backend)) for backend in ("cpp", "reference")]
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", ["write_reset", "usage", "step_strength", "scan", "ntm_address"])
def test_tangents_of_gradients_alone(case: str) -> None:
    """The forward pass was outside the level of forward mode, so that a kernel computed it."""
    function, values = as_function(case, LITTLE, "cpp")
    outputs = function(*values)
    g = tuple(cotangents(CASES[case], LITTLE, torch.float64).values())
    expected = torch.autograd.grad(outputs, values, g, retain_graph=True)
    with forward_ad.dual_level():
        got = torch.autograd.grad(outputs, values, tuple(forward_ad.make_dual(x, x) for x in g))
        for x, y in zip(got, expected, strict=True):
            torch.testing.assert_close(forward_ad.unpack_dual(x).tangent, y, rtol=1e-12, atol=1e-12)


class Steps(nn.Module):
    """A sequence, or a loop over its cell."""

    def __init__(self, model: Any, whole: bool) -> None:
        super().__init__()
        self.model, self.whole = model, whole

    def forward(self, input: Tensor, state: Any) -> Any:
        return self.model(input, state) if self.whole else loop(self.model, input, state)


def as_tensors(model: Any, whole: bool, T: int, B: int) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """The model as a function of its input, state and parameters, and values of them."""
    steps, (input, state) = Steps(model, whole), episode(model, T, B)
    parameters = dict(steps.named_parameters())
    leaves = [input, *named(state).values(), *parameters.values()]

    def function(input: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        rest = iter(others)
        given = apply(state, lambda _: next(rest))
        output, last = functional_call(steps, dict(zip(parameters, rest, strict=True)), (input, given))
        return output, *named(last).values()

    return function, [x.detach().clone().requires_grad_() for x in leaves]


@BOTH
@CONTROLLERS
@ALL
@BACKENDS
@pytest.mark.slow
def test_model(module: type[Sequence], controller: str, whole: bool, backend: str) -> None:
    """First and second derivatives equal differences, in the input, every part of the state, and the parameters."""
    options = {"controller": controller, "memory_init": "learned", "backend": backend} | MOST[module]
    function, leaves = as_tensors(build(module, (2, 2, 3, 2, 2), **options), whole, 2, 1)
    assert gradcheck(function, leaves, check_forward_ad=True, **FAST)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, **FAST)


def penalised(model: Any, whole: bool, T: int, B: int) -> Tensors:
    """Gradients of a loss with a penalty on its gradient."""
    function, leaves = as_tensors(model, whole, T, B)
    loss = sum(x.square().sum() for x in function(*leaves))
    first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    penalty = sum(x.square().sum() for x in first)
    got = torch.autograd.grad(loss + penalty, leaves)
    return {str(i): x for i, x in enumerate((*(x.detach() for x in first), *got))}


@BOTH
@CONTROLLERS
@ALL
def test_penalty_on_the_gradient(module: type[Sequence], controller: str, whole: bool) -> None:
    """The accuracy rule holds for second derivatives."""

    def run(dtype: torch.dtype, backend: str) -> Tensors:
        return penalised(build(module, dtype=dtype, controller=controller, backend=backend), whole, 4, 3)

    truth = run(torch.float64, "reference")
    assert_accurate(run(torch.float32, "cpp"), truth, run(torch.float32, "reference"))
    torch.testing.assert_close(run(torch.float64, "cpp"), truth, rtol=1e-9, atol=1e-9)


@BOTH
def test_batch_in_chunks(module: type[Sequence]) -> None:
    results = [penalised(build(module, backend=backend), True, 2, 130) for backend in ("cpp", "reference")]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@BOTH
def test_third_derivative(module: type[Sequence]) -> None:
    def third(backend: str) -> Tensor:
        function, leaves = as_tensors(build(module, (2, 2, 3, 2, 1), backend=backend), True, 2, 1)
        x = function(*leaves)[0].square().sum()
        for _ in range(3):
            x = torch.autograd.grad(x, leaves[0], create_graph=True)[0].square().sum()
        return x

    torch.testing.assert_close(third("cpp"), third("reference"), rtol=1e-10, atol=0)


def test_slots_are_those_of_the_kernel() -> None:
    """Where usages differ in their last bits alone, the reference may choose other slots than the kernel has chosen."""
    tensors = arguments(CASES["scan"], Shape(64, 6, 5, 2, 1, T=2))
    options: dict[str, Any] = {"num_least_used": 1, "decay": 1.0}

    def run(backend: str, T: int, usage: Tensor) -> tuple[list[Tensor], functional.LRUAScan]:
        values = tensors | {"usage": usage} | {name: tensors[name][:T] for name in ("keys", "adds", "gates")}
        leaves = [x.clone().requires_grad_() for x in values.values()]
        return leaves, functional.lrua_scan(*leaves, **options, backend=backend)

    usage = tensors["usage"]
    for _ in range(10):  # so that all usages after the first step are equal but for rounding
        after = run("cpp", 1, usage)[1].usage.detach()
        usage = usage + (after.max(-1, keepdim=True).values - after)
    chosen = [reference.least_used_slots(run(backend, 1, usage)[1].usage, 1) for backend in ("cpp", "reference")]
    assert 0 < (chosen[0] != chosen[1]).sum() < 64

    def second(leaves: list[Tensor], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(sum(x.square().sum() for x in outputs), leaves, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), leaves)

    got = second(*run("cpp", 2, usage))
    leaves = run("cpp", 2, usage)[0]
    slots = torch.stack([reference.least_used_slots(usage, 1), chosen[0]])
    expected = second(leaves, reference.lrua_scan(*leaves, None, 1, False, 1.0, slots))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", ["step_strength", "scan"])
def test_half_precision(case: str, dtype: torch.dtype) -> None:
    """Triton's kernels convert half precision on load; derivatives of their gradients widen it."""
    tensors = {name: x.to(dtype) for name, x in arguments(CASES[case], LITTLE).items()}

    def second(backend: str) -> tuple[Tensor, ...]:
        leaves = [x.clone().requires_grad_() for x in tensors.values()]
        outputs = CASES[case].operation.function(**dict(zip(tensors, leaves)), backend=backend)
        first = torch.autograd.grad(sum(x.square().sum() for x in outputs), leaves, create_graph=True)
        return torch.autograd.grad(sum(x.float().square().sum() for x in first), leaves)

    torch.testing.assert_close(second("triton"), second("reference"), rtol=0.05, atol=0.05)
