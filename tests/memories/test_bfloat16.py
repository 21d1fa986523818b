"""Products in bfloat16 under autocast and of modules in bfloat16: what they round, and what they do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from mannkern import MANN
from mannkern.backends import native
from mannkern.memories import episode as episodes
from mannkern.memories.lrua.ops import episode as lrua
from mannkern.memories.ntm.ops import episode as ntm
from tests.helpers import same
from tests.memories.sequences import BOTH, Sequence, build, episode, loop, named

needs_products = pytest.mark.skipif(not native.multiplies_bfloat16, reason="needs a CPU with AVX512-BF16")
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
SIZES = {"small": (3, 5, 8, 4, 2), "standard": (405, 200, 128, 40, 4)}


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


class RoundedProduct(Function):
    """x w^T as the kernels compute it and its gradients: both factors of each product are rounded, sums are not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return rounded(x) @ rounded(w).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return rounded(grad) @ rounded(w), rounded(grad).T @ rounded(x)


class RoundedFunctional:
    """torch.nn.functional with such a ``linear``."""

    @staticmethod
    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        product = RoundedProduct.apply(x, w)
        return product if bias is None else product + bias


def arguments(model: Any, T: int, B: int) -> tuple[list[Any], tuple[Any, ...]]:
    """The tensors of an episode operation, and its options without ``save_for_backward``."""
    cell, (input, state) = model.cell, episode(model, T, B)
    output, c = episodes.pack_state(cell, state)
    tensors = [input, *episodes.pack_weights(cell), output, c, state.memory]
    if isinstance(model, MANN):
        options: tuple[Any, ...] = (cell.num_least_used, cell.least_used == "per_head", cell.decay)
        return [*tensors, state.read_weights, state.usage, None, None, None], options
    weights = torch.cat([state.write_weights, state.read_weights], 1)
    return [*tensors, weights, None, None, None], (cell.num_write_heads, 2 * cell.shift_range + 1)


def with_gradients(results: Any, leaves: list[Tensor]) -> list[Tensor]:
    results = [x for x in results if x is not None]
    loss = sum((x.double() * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum() for x in results)
    return [*results, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


def error(got: Tensor, expected: Tensor) -> float:
    off, size = (got.detach().double() - expected.detach().double()).norm(), expected.detach().double().norm()
    return float(off / (size + 1e-30))


@needs_products
def test_example() -> None:
    """1 + 2^-9 rounds to 1 as an input and as a weight; the product with 3 is not rounded, and neither is the sum."""
    model = MANN(2, 1, 2, 1, 1, controller="feedforward")
    for p in model.parameters():
        p.detach().zero_()
    model.cell.controller.linear.weight.detach()[0, :2] = torch.tensor([1 + 2**-9, 2**-8])
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model(torch.tensor([[[1 + 2**-9, 3.0]]]), None)
        output = model.cell.fused_episode(
            torch.tensor([[[1 + 2**-9, 3.0]]]), episodes.pack_weights(model.cell), state, bfloat16=True
        )[0]
    assert output[0, 0, 0].item() == pytest.approx(torch.tensor(1 + 3 * 2**-8).tanh().item(), abs=1e-7)


@needs_products
@BOTH
@CONTROLLERS
@pytest.mark.parametrize("sizes", SIZES)
def test_rounds_factors_alone(
    module: type[Sequence], controller: str, sizes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and gradients are those of a float64 episode whose products have rounded factors.

    A number that falls to the other side of a rounding boundary differs by more than float32 does, so the bound is a
    tenth of what the rounding itself changes.
    """
    T, B = (4, 3) if sizes == "small" else (3, 21)
    args = SIZES[sizes] if module is MANN else SIZES[sizes][:4]
    model = build(module, args, torch.float32, controller=controller)
    tensors, options = arguments(model, T, B)
    leaves = [x.detach().requires_grad_() for x in tensors[:6]]
    family: Any = lrua if module is MANN else ntm
    function = lrua.MANNEpisodeBFloat16Function if module is MANN else ntm.NTMEpisodeBFloat16Function
    results = function.apply(*leaves, *tensors[6:], *options, True)
    shown = 5 if module is MANN else 4
    slots = [results[-1]] if module is MANN else []
    got = with_gradients([x for x in results[:shown] if x.numel()], leaves)

    def truth() -> list[Tensor]:
        wide = [x.detach().double().requires_grad_() for x in leaves]
        rest = [x if x is None else x.double() for x in tensors[6:]]
        return with_gradients(family.reference_episode(*wide, *rest, *options, *slots), wide)

    exact = truth()
    monkeypatch.setattr(episodes, "F", RoundedFunctional)
    monkeypatch.setattr(family, "F", RoundedFunctional)
    for x, expected, unrounded in zip(got, truth(), exact, strict=True):
        assert error(x, expected) <= 0.1 * error(unrounded, expected) + 1e-6


@needs_products
@BOTH
@CONTROLLERS
def test_autocast_and_modules_in_bfloat16_agree(module: type[Sequence], controller: str) -> None:
    half = build(module, dtype=torch.float32, controller=controller).bfloat16()
    model = copy.deepcopy(half).float()
    input, state = episode(model, 5, B=3)
    input, state = input.bfloat16().float(), state._replace(controller=tuple(map(rounded, state.controller)))
    with torch.autocast("cpu", torch.bfloat16):
        output, last = model(input, state)
    half_state = state._replace(controller=tuple(x.bfloat16() for x in state.controller))
    half_output, half_last = half(input.bfloat16(), half_state)
    assert half_output.dtype == torch.bfloat16
    assert same(half_output, output.bfloat16())
    for name, x in named(last).items():
        assert same(named(half_last)[name], x.to(named(half_last)[name].dtype)), name
    assert not same(output.float(), model(input, state)[0])  # float32 has other last bits


@needs_products
@BOTH
def test_state_and_gradients_stay_float32(module: type[Sequence]) -> None:
    model = build(module, dtype=torch.float32)
    input, state = episode(model, 5, B=3)
    with torch.autocast("cpu", torch.bfloat16):
        output, last = model(input.requires_grad_(), state)
    assert {x.dtype for x in (output, *named(last).values())} == {torch.float32}
    output.square().sum().backward()
    for x in (input, *model.parameters()):
        assert x.grad is not None
        assert x.grad.dtype == torch.float32
        assert not same(x.grad, rounded(x.grad))


@needs_products
@BOTH
def test_closer_than_a_loop_in_bfloat16(module: type[Sequence]) -> None:
    """The rule of accuracy: at most four times the error of the reference, whose cell computes in bfloat16."""
    model = build(module, dtype=torch.bfloat16)
    input, state = episode(model, 5, B=4)
    wide = copy.deepcopy(model).double()
    expected, _ = loop(
        wide, input.double(), type(state)(tuple(x.double() for x in state.controller), *(x.double() for x in state[1:]))
    )
    eager = copy.deepcopy(model)
    eager.cell.backend = "reference"
    outputs = [x(input, state)[0] for x in (model, eager)]
    assert error(outputs[0], expected) <= 4 * error(outputs[1], expected) + 1e-6
    for x in (*outputs, expected):
        x.double().square().sum().backward()
    for p, q, truth in zip(model.parameters(), eager.parameters(), wide.parameters(), strict=True):
        assert p.grad is not None
        assert error(p.grad, truth.grad) <= 4 * error(q.grad, truth.grad) + 1e-6


@needs_products
@BOTH
@pytest.mark.parametrize("B", [1, 40])
def test_same_bits_for_any_threads_and_batch(module: type[Sequence], B: int) -> None:
    model = build(module, dtype=torch.float32)
    input, state = episode(model, 6, B)
    lengths = torch.arange(B) % 7
    results, threads = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        try:
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                output, _ = model(input, state, lengths=lengths)
            output.sum().backward()
            results.append([output, *(p.grad.clone() for p in model.parameters())])
        finally:
            torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(same(x, y) for x, y in zip(results[0], others, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        one = type(state)(tuple(x[:1] for x in state.controller), *(x[:1] for x in state[1:]))
        assert same(model(input[:, :1], one, lengths=lengths[:1])[0], results[0][0][:, :1])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_have_no_such_products(module: type[Sequence], dtype: torch.dtype) -> None:
    model = build(module, dtype=torch.float32 if dtype == torch.float16 else dtype)
    input, state = episode(model, 3, B=2)
    with torch.autocast("cpu", torch.float16 if dtype == torch.float16 else torch.bfloat16):
        output, _ = model(input, state)
    assert same(output, model(input, state)[0])


@BOTH
def test_weights_in_bfloat16_are_widened_where_a_machine_has_no_such_products(module: type[Sequence]) -> None:
    model, before = build(module, dtype=torch.float32), native.isa()
    tensors, options = arguments(model, 4, B=3)
    operation = (lrua.mann_episode if module is MANN else ntm.ntm_episode)["default"]
    half = [x.bfloat16() if i in (1, 3, 4) else x for i, x in enumerate(tensors)]
    wide = [x.bfloat16().float() if i in (1, 3, 4) else x for i, x in enumerate(tensors)]
    try:
        assert native.set_isa("portable")
        assert not native.multiplies_bfloat16
        results = [operation(*args, *options, True) for args in (half, wide)]
    finally:
        native.set_isa(before)
    assert all(same(x, y) for x, y in zip(*results, strict=True))


@needs_products
@BOTH
def test_second_derivatives(module: type[Sequence]) -> None:
    """They are those in float32."""
    model = build(module, dtype=torch.float32)
    input, state = episode(model, 3, B=2)
    results = []
    for enabled in (True, False):
        x = input.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output, _ = model(x, state)
        (first,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert error(*results) < 0.05


@needs_products
@BOTH
@CONTROLLERS
@pytest.mark.parametrize("how", ["autocast", "module", "exported"])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, of its tracing
def test_one_program_of_the_compiler(module: type[Sequence], controller: str, how: str) -> None:
    """Under ``fullgraph`` and strict export nothing of it may fall back to Python; the results are the eager ones."""
    model = module(3, 4, 7, 5, 2, controller=controller)
    input = torch.randn(4, 3, 3)
    if how == "module":
        model, input = model.bfloat16(), input.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how != "module"):
        eager = model(input)[0]
        if how == "exported":
            compiled: Any = torch.export.export(model, (input,), strict=True).module()
        else:
            compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        output = compiled(input)[0]
    assert torch.equal(output, eager)
    if how != "exported":
        loss = output.float().square().sum()
        found = torch.autograd.grad(loss, list(model.parameters()))
        expected = torch.autograd.grad(eager.float().square().sum(), list(model.parameters()))
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@BOTH
@pytest.mark.parametrize("whole", [True, False], ids=["sequence", "cell"])
def test_a_backward_pass_within_autocast_is_in_float32(module: type[Sequence], whole: bool) -> None:
    """With a graph of its own too, which the reference computes anew: the forward pass was in float32."""
    torch.manual_seed(0)
    model: Any = module(3, 5, 8, 4, 2, backend="cpp")
    x = torch.randn(4, 2, 3) if whole else torch.randn(2, 3)
    loss = (model if whole else model.cell)(x)[0].square().sum()
    parameters = list(model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.autograd.grad(loss, parameters, retain_graph=True)
        again = torch.autograd.grad(loss, parameters, create_graph=True)
    for one, other in zip(plain, again, strict=True):
        assert float((one - other.detach()).norm()) <= 1e-5 * float(one.norm())
